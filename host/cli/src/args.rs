//! The command line.
//!
//! Owns the list of subcommands and the global options. Never has the options of a subcommand: those are in its own
//! file.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand};

use crate::exit::Exit;
use crate::{
    attempts, backup, bench, build, cancel, check, copy, dead, discover, doctor, events, inspect, items, operations,
    prune, redrive, run, schema, show, status,
};

/// Runs jobs whose stages are WebAssembly components.
///
/// A job, declared in YAML, says how items are discovered and which stages every item goes through. Each stage is a
/// component that runs in a sandbox. What is known about every item is kept in a data folder, so a run that was
/// stopped, or killed, goes on where it was.
#[derive(Parser)]
#[command(name = "gristmill", version, after_long_help = Exit::table(), disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// The data folder. Without it: the variable `GRISTMILL_DATA`, then `.gristmill` beside the job's file, then
    /// `.gristmill` in the current folder.
    #[arg(long, global = true, value_name = "FOLDER")]
    pub(crate) data: Option<PathBuf>,

    /// The tracker, where everything is recorded: `postgres://USER@HOST/DATABASE`, or `sqlite:FOLDER`, which is the
    /// same as --data FOLDER. Without it: --data, then the variable `GRISTMILL_TRACKER`, then the data folder. A password
    /// comes from `PGPASSWORD`, a passfile (`PGPASSFILE`, else `~/.pgpass`), or that variable: others see a command line.
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) tracker: Option<String>,

    /// Print JSON: one object, or one a line for a list. Times are RFC 3339, UTC.
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Say more on the standard error; twice for everything. The variable `GRISTMILL_LOG` takes a filter in its
    /// place.
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    Run(run::Args),
    Check(check::Args),
    Build(build::Args),
    Inspect(inspect::Args),
    Status(status::Args),
    Items(items::Args),
    Show(show::Args),
    Attempts(attempts::Args),
    Dead(dead::Args),
    Redrive(redrive::Args),
    Operations(operations::Args),
    Cancel(cancel::Args),
    Discover(discover::Args),
    Events(events::Args),
    Prune(prune::Args),
    Doctor(doctor::Args),
    Backup(backup::Args),
    Restore(backup::RestoreArgs),
    Tracker(copy::Args),
    Bench(bench::Args),
    Schema(schema::Args),
}

/// Reads one of a list of named things.
pub(crate) fn one_of<T: Copy + Send + Sync + 'static>(
    all: &'static [T],
    name: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(all.iter().map(|one| name(*one))).map(move |text| {
        let found = all.iter().find(|one| name(**one) == text);
        *found.unwrap_or_else(|| unreachable!("the parser lets nothing else through"))
    })
}

/// Reads a time as job files have it.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    gristmill_config::duration(text).ok_or_else(|| "it is written as 30s, 5m, 1h30m or 7d".to_owned())
}

/// Reads a rate as job files have it. Returns the number per second.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    gristmill_config::rate(text).ok_or_else(|| "it is written as 10/s, 600/m or 1/h".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_says_what_it_does_and_shows_an_example() {
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            assert!(command.get_about().is_some_and(|about| !about.to_string().is_empty()), "{name}");
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(&format!("gristmill {name}")), "{name} shows no example: {help}");
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{name}: {}", argument.get_id());
            }
        }
    }
}
