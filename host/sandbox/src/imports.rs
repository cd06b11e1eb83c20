//! What `gristmill:handler` offers a guest: log, parameters, charges, progress; and secrets, of which it grants none.
//!
//! Owns the bounds of each function. Never copies a text out of a guest before it knows that the text will be kept.

use wasmtime::component::{Linker, Resource, ResourceType, WasmStr};
use wasmtime::{Result, StoreContextMut};

use crate::abi::Level;
use crate::log::bounded;
use crate::names::name_fault;
use crate::outcome::Refused;
use crate::state::State;

const HOST: &str = "gristmill:handler/host@0.1.0";
pub(crate) const SECRETS: &str = "gristmill:handler/secrets@0.1.0";

/// How many meters one attempt may use: the contract's number.
const METERS_MAX: usize = 16;

/// The most that one attempt may charge to a meter: the contract's number. Up to there, floating point represents every
/// whole number, and no number of attempts overflows the sum.
const AMOUNT_MAX: f64 = 1e15;

/// How many different parameters one attempt may read: they are part of its result's identity.
const PARAMS_MAX: usize = 256;

const PROGRESS_BYTES_MAX: usize = 1 << 10;

pub(crate) fn link(linker: &mut Linker<State>) -> Result<()> {
    let mut host = linker.instance(HOST)?;
    host.func_wrap("log", |store: StoreContextMut<'_, State>, (level, message): (Level, WasmStr)| {
        let log = store.data().log.clone();
        let message = message.to_str(&store)?;
        log.lock().message(level.name(), &message);
        Ok(())
    })?;
    host.func_wrap("param", |mut store: StoreContextMut<'_, State>, (name,): (WasmStr,)| {
        let name = name_of(&store, &name, "parameter")?;
        Ok((param(store.data_mut(), name)?,))
    })?;
    host.func_wrap("charge", |mut store: StoreContextMut<'_, State>, (meter, amount): (WasmStr, f64)| {
        let meter = name_of(&store, &meter, "meter")?;
        charge(store.data_mut(), meter, amount)
    })?;
    host.func_wrap("progress", |mut store: StoreContextMut<'_, State>, (fraction, message): (f64, WasmStr)| {
        let message = bounded(&message.to_str(&store)?, PROGRESS_BYTES_MAX);
        // NaN counts as no progress.
        let fraction = if fraction.is_nan() { 0.0 } else { fraction.clamp(0.0, 1.0) };
        store.data_mut().progress = Some((fraction, message));
        Ok(())
    })?;

    let mut secrets = linker.instance(SECRETS)?;
    secrets.resource("secret", ResourceType::host::<Secret>(), |_, _| Ok(()))?;
    // The contract's answer for a secret that the job does not grant. No job can grant one yet.
    secrets.func_wrap("get", |_: StoreContextMut<'_, State>, (_,): (WasmStr,)| Ok((None::<Resource<Secret>>,)))?;
    secrets.func_wrap("[method]secret.reveal", |_: StoreContextMut<'_, State>, (_,): (Resource<Secret>,)| {
        Err::<(String,), _>(refused("revealed a secret that it was not given".to_owned()))
    })
}

/// The type of a handle that no guest holds.
struct Secret;

fn refused(reason: String) -> wasmtime::Error {
    wasmtime::Error::from(Refused(reason))
}

fn name_of(store: &StoreContextMut<'_, State>, name: &WasmStr, what: &str) -> Result<String> {
    let name = name.to_str(store)?;
    match name_fault(&name) {
        Some(fault) => Err(refused(format!("named a {what} whose name {fault}"))),
        None => Ok(name.into_owned()),
    }
}

fn param(state: &mut State, name: String) -> Result<Option<String>> {
    if let Some(value) = state.params_read.get(&name) {
        return Ok(value.clone());
    }
    if state.params_read.len() == PARAMS_MAX {
        return Err(refused(format!("read more than {PARAMS_MAX} different parameters")));
    }
    let value = state.params.get(&name).cloned();
    state.params_read.insert(name, value.clone());
    Ok(value)
}

fn charge(state: &mut State, meter: String, amount: f64) -> Result<()> {
    if !(0.0..=AMOUNT_MAX).contains(&amount) {
        return Err(refused(format!("charged {amount} to {meter:?}: an amount is from 0 to {AMOUNT_MAX:e}")));
    }
    let Some((_, sum)) = state.charges.iter_mut().find(|(name, _)| *name == meter) else {
        if state.charges.len() == METERS_MAX {
            return Err(refused(format!("charged to more than {METERS_MAX} meters")));
        }
        state.charges.push((meter, amount));
        return Ok(());
    };
    if *sum + amount > AMOUNT_MAX {
        return Err(refused(format!("charged more than {AMOUNT_MAX:e} to {meter:?}")));
    }
    *sum += amount;
    Ok(())
}
