//! Running stages: the trait, the table of stages, and typed access to what a stage is given.
//! Owns the way from JSON to serde types and back.
//! Never calls the host, so a stage can be tested without one.

use serde::de::Deserialize;
use serde::ser::Serialize;

pub use crate::bindings::base::gristmill::handler::types::{Upstream, Work};

use crate::failure::{Failure, OrFail};

/// A handler that runs stages.
pub trait Stages {
    /// The stages on offer. A constant, because a fresh instance runs one stage once: a table that is built at each
    /// call would cost more than most stages.
    const STAGES: &'static [Stage];
}

/// One stage on offer; made by [`stage!`](crate::stage!).
#[derive(Debug, Clone, Copy)]
pub struct Stage {
    pub(crate) name: &'static str,
    pub(crate) description: &'static str,
    pub(crate) run: fn(&Work) -> Result<String, Failure>,
}

impl Stage {
    /// A stage whose function returns JSON text as it stands. [`stage!`](crate::stage!) is for every other one.
    pub const fn raw(name: &'static str, description: &'static str, run: fn(&Work) -> Result<String, Failure>) -> Self {
        Self { name, description, run }
    }

    /// The name that job files use.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Runs the stage, as the host would. For tests.
    ///
    /// # Errors
    /// What the stage's function returns.
    pub fn run(&self, work: &Work) -> Result<String, Failure> {
        (self.run)(work)
    }
}

/// Makes a [`Stage`]: its name in job files, one line for people, and a `fn(&Work) -> Result<T, Failure>` where `T`
/// is `Serialize`.
#[macro_export]
macro_rules! stage {
    ($name:literal, $description:literal, $run:path) => {
        $crate::Stage::raw($name, $description, |work| $crate::json(&$run(work)?))
    };
}

/// The JSON text of a value.
///
/// # Errors
/// If the value cannot be written as JSON: a map has keys that are no text, or `Serialize` fails.
pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<String, Failure> {
    serde_json::to_string(value).or_permanent("output")
}

/// A JSON text. Made of a value by [`Json::of`]; a `String` that becomes one is taken for JSON as it stands, and refused
/// by the host if it is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Json(pub String);

impl Json {
    /// The JSON text of a value.
    ///
    /// # Errors
    /// As [`json`].
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, Failure> {
        json(value).map(Self)
    }
}

impl From<String> for Json {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// Typed views of the raw fields.
impl Work {
    /// Work to test a stage with: the first attempt, nothing upstream.
    ///
    /// # Errors
    /// If `data` cannot be written as JSON.
    pub fn new(stage: &str, item_key: &str, data: &impl Serialize) -> Result<Self, Failure> {
        Ok(Self {
            job: "test".to_owned(),
            stage: stage.to_owned(),
            item_key: item_key.to_owned(),
            data: json(data)?,
            upstream: Vec::new(),
            attempt: 1,
            idempotency_key: "0".repeat(64),
            meta: Vec::new(),
        })
    }

    /// The same work with the output of one more stage. For tests.
    ///
    /// # Errors
    /// If `output` cannot be written as JSON.
    pub fn with_upstream(mut self, stage: &str, output: &impl Serialize) -> Result<Self, Failure> {
        self.upstream.push(Upstream { stage: stage.to_owned(), output: json(output)? });
        Ok(self)
    }

    /// The item's data. A type that borrows (`&str`) costs no copy.
    ///
    /// # Errors
    /// If the data is no `T`.
    pub fn data<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Failure> {
        serde_json::from_str(&self.data).or_permanent("data of the item")
    }

    /// The output of a stage that this one needs. Permanent if it has none.
    ///
    /// # Errors
    /// If there is no such output, or it is no `T`.
    pub fn upstream<'a, T: Deserialize<'a>>(&'a self, stage: &str) -> Result<T, Failure> {
        self.upstream_optional(stage)?.ok_or_else(|| {
            Failure::permanent(format!(
                "stage `{}` got no output of `{stage}`: it was skipped, or `needs` does not name it",
                self.stage
            ))
        })
    }

    /// The output of a stage that this one needs; none if it was skipped or `needs` does not name it.
    ///
    /// # Errors
    /// If the output is no `T`.
    pub fn upstream_optional<'a, T: Deserialize<'a>>(&'a self, stage: &str) -> Result<Option<T>, Failure> {
        self.upstream
            .iter()
            .find(|up| up.stage == stage)
            .map(|up| serde_json::from_str(&up.output).or_permanent(format_args!("output of `{stage}`")))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work() -> Work {
        Work::new("verdict", "a@1", &[1, 2]).and_then(|w| w.with_upstream("source", &"text")).expect("serializable")
    }

    fn sum(work: &Work) -> Result<u32, Failure> {
        Ok(work.data::<Vec<u32>>()?.into_iter().sum())
    }

    #[test]
    fn a_stage_is_a_typed_function() {
        const STAGE: Stage = crate::stage!("sum", "adds up", sum);
        assert_eq!((STAGE.name(), STAGE.run(&work())), ("sum", Ok("3".to_owned())));
    }

    #[test]
    fn data_of_another_type_is_permanent() {
        let failure = work().data::<u32>().expect_err("a list is no number");
        assert!(failure.message().starts_with("data of the item: invalid type"), "{failure}");
    }

    #[test]
    fn upstream_output_is_found_by_stage() {
        assert_eq!(work().upstream::<String>("source"), Ok("text".to_owned()));
        assert_eq!(work().upstream_optional::<String>("licence"), Ok(None));
    }

    #[test]
    fn missing_upstream_says_why() {
        let failure = work().upstream::<String>("licence").expect_err("not given");
        assert_eq!(
            failure.message(),
            "stage `verdict` got no output of `licence`: it was skipped, or `needs` does not name it"
        );
    }
}
