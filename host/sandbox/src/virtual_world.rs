//! Time and chance as a guest sees them: the same at every run, unless it is granted the real ones.
//!
//! Owns the virtual clocks (the wall clock stands still, the monotonic one moves when it is read or slept on) and the
//! seeded randomness. Never waits, except for a guest with the clock grant, and then not beyond its deadline.

use std::time::{Duration, Instant};

use blake3::OutputReader;
use gristmill_model::{Digest, Timestamp};
use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::bindings::clocks::{monotonic_clock, wall_clock};
use wasmtime_wasi::p2::bindings::random::{insecure, insecure_seed, random};
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

use crate::outcome::Refused;
use crate::state::State;
use crate::ticker::{TICK, now};

/// How far the virtual monotonic clock moves at each read, so that a loop that waits for a time ends.
const STEP_NANOS: u64 = 1_000;

/// How many random bytes a guest may ask for at once.
const RANDOM_BYTES_MAX: u64 = 1 << 20;

pub(crate) struct VirtualWorld {
    frozen_at: Timestamp,
    seed: Digest,
    monotonic_nanos: u64,
    /// Made by the first call that needs it.
    random: Option<Box<OutputReader>>,
}

impl VirtualWorld {
    pub(crate) fn new(frozen_at: Timestamp, seed: Digest) -> Self {
        Self { frozen_at, seed, monotonic_nanos: 0, random: None }
    }

    /// Fills `bytes` with the next bytes of the seed's sequence: blake3's extendable output, keyed by the seed.
    fn fill(&mut self, bytes: &mut [u8]) {
        let seed = &self.seed.0;
        self.random
            .get_or_insert_with(|| {
                let mut hasher = blake3::Hasher::new_keyed(seed);
                hasher.update(b"gristmill random 1");
                Box::new(hasher.finalize_xof())
            })
            .fill(bytes);
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

/// Replaces WASI's own clocks and randomness, which must already be linked.
pub(crate) fn link(linker: &mut Linker<State>) -> Result<()> {
    wall_clock::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    monotonic_clock::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    random::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    insecure::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    insecure_seed::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

impl wall_clock::Host for State {
    fn now(&mut self) -> Result<wall_clock::Datetime> {
        let time = if self.granted.grants.clock { self.clock.now() } else { self.world.frozen_at };
        let time = time.since(Timestamp::default());
        Ok(wall_clock::Datetime { seconds: time.as_secs(), nanoseconds: time.subsec_nanos() })
    }

    fn resolution(&mut self) -> Result<wall_clock::Datetime> {
        Ok(wall_clock::Datetime { seconds: 0, nanoseconds: 1_000 })
    }
}

impl monotonic_clock::Host for State {
    fn now(&mut self) -> Result<u64> {
        if self.granted.grants.clock {
            return Ok(nanos(now().duration_since(self.began)));
        }
        self.world.monotonic_nanos = self.world.monotonic_nanos.saturating_add(STEP_NANOS);
        Ok(self.world.monotonic_nanos)
    }

    fn resolution(&mut self) -> Result<u64> {
        Ok(if self.granted.grants.clock { 1 } else { STEP_NANOS })
    }

    fn subscribe_instant(&mut self, when: u64) -> Result<Resource<DynPollable>> {
        if !self.granted.grants.clock {
            self.world.monotonic_nanos = self.world.monotonic_nanos.max(when);
        }
        let until = self.began.checked_add(Duration::from_nanos(when));
        self.sleep(until)
    }

    fn subscribe_duration(&mut self, duration: u64) -> Result<Resource<DynPollable>> {
        if !self.granted.grants.clock {
            self.world.monotonic_nanos = self.world.monotonic_nanos.saturating_add(duration);
        }
        self.sleep(now().checked_add(Duration::from_nanos(duration)))
    }
}

impl State {
    /// A timer. On the virtual clock it is over at once, since that clock has already moved.
    fn sleep(&mut self, until: Option<Instant>) -> Result<Resource<DynPollable>> {
        // A guest that sleeps beyond its deadline wakes just after it, and is then interrupted.
        let latest = self.deadline + 2 * TICK;
        let until = self.granted.grants.clock.then(|| until.map_or(latest, |until| until.min(latest)));
        let timer = self.table.push(Timer { until })?;
        subscribe(&mut self.table, timer)
    }
}

struct Timer {
    until: Option<Instant>,
}

#[async_trait]
impl Pollable for Timer {
    async fn ready(&mut self) {
        if let Some(until) = self.until {
            tokio::time::sleep_until(until.into()).await;
        }
    }
}

impl random::Host for State {
    fn get_random_bytes(&mut self, len: u64) -> Result<Vec<u8>> {
        if len > RANDOM_BYTES_MAX {
            let reason = format!("asked for {len} random bytes, and may ask for {RANDOM_BYTES_MAX} at once");
            return Err(wasmtime::Error::from(Refused(reason)));
        }
        if self.granted.grants.random {
            return random::Host::get_random_bytes(self.wasi().random(), len);
        }
        let mut bytes = vec![0; len as usize];
        self.world.fill(&mut bytes);
        Ok(bytes)
    }

    fn get_random_u64(&mut self) -> Result<u64> {
        if self.granted.grants.random { self.wasi().random().get_random_u64() } else { Ok(self.world.next_u64()) }
    }
}

impl insecure::Host for State {
    fn get_insecure_random_bytes(&mut self, len: u64) -> Result<Vec<u8>> {
        random::Host::get_random_bytes(self, len)
    }

    fn get_insecure_random_u64(&mut self) -> Result<u64> {
        random::Host::get_random_u64(self)
    }
}

impl insecure_seed::Host for State {
    fn insecure_seed(&mut self) -> Result<(u64, u64)> {
        Ok((random::Host::get_random_u64(self)?, random::Host::get_random_u64(self)?))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
