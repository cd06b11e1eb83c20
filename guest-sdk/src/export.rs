//! Connects a handler to the interfaces it exports.
//! Owns the macro `export!` and the glue that it names.
//! Never asks for more than was named: a component exports and imports only what it uses.

use std::marker::PhantomData;

use crate::arena;
use crate::bindings::base::gristmill::handler::types;
use crate::bindings::{discoverer, merger, processor};
use crate::discovery::{DiscoverRequest, Discovery, Page};
use crate::failure::Failure;
use crate::merging::{MergeRequest, Merging};
use crate::stages::{Stages, Work};

/// Makes a component of a handler: names the type, and which of `stages`, `discovery` and `merging` it offers. Once a
/// component.
///
/// ```text
/// gristmill_guest::export!(Audit: stages, discovery);
/// ```
#[macro_export]
macro_rules! export {
    (@stages $handler:ty) => {
        $crate::bindings::processor::export_processor!(Exported with_types_in $crate::bindings::processor);
    };
    (@discovery $handler:ty) => {
        $crate::bindings::discoverer::export_discoverer!(Exported with_types_in $crate::bindings::discoverer);
    };
    (@merging $handler:ty) => {
        $crate::bindings::merger::export_merger!(Exported with_types_in $crate::bindings::merger);
    };
    ($handler:ty: $($interface:ident),+ $(,)?) => {
        $(
            const _: () = {
                type Exported = $crate::Exported<$handler>;
                $crate::export!(@$interface $handler);
            };
        )+
    };
}

/// The handler as the generated bindings want it.
#[doc(hidden)]
#[derive(Debug)]
pub struct Exported<T>(PhantomData<T>);

impl<T: Stages> processor::exports::gristmill::handler::stages::Guest for Exported<T> {
    fn describe() -> Vec<types::StageInfo> {
        let _call = arena::enter();
        let info = |stage: &crate::Stage| types::StageInfo {
            name: stage.name.to_owned(),
            description: stage.description.to_owned(),
            meta: Vec::new(),
        };
        T::STAGES.iter().map(info).collect()
    }

    fn run(work: Work) -> Result<String, types::Failure> {
        let _call = arena::enter();
        let stage = T::STAGES.iter().find(|stage| stage.name == work.stage);
        let output = match stage {
            Some(stage) => (stage.run)(&work),
            None => Err(Failure::permanent(format!("this component has no stage `{}`", work.stage))),
        };
        output.map_err(Into::into)
    }
}

impl<T: Discovery> discoverer::exports::gristmill::handler::discovery::Guest for Exported<T> {
    fn discover(request: DiscoverRequest) -> Result<Page, types::Failure> {
        let _call = arena::enter();
        T::discover(&request).map_err(Into::into)
    }
}

impl<T: Merging> merger::exports::gristmill::handler::merging::Guest for Exported<T> {
    fn merge(request: MergeRequest) -> Result<String, types::Failure> {
        let _call = arena::enter();
        T::merge(&request).map(|merged| merged.into().0).map_err(Into::into)
    }
}
