//! The gristmill binary.
//!
//! Owns the process: how it begins, and how it ends. Each subcommand has its own file, and everything that is printed
//! goes through `out`. Nothing below this crate ever prints or exits.

mod args;
mod attempts;
mod backup;
mod bench;
mod build;
mod cancel;
mod check;
mod context;
mod copy;
mod data;
mod dead;
mod discover;
mod doctor;
mod events;
mod exit;
mod failure;
mod format;
mod grants;
mod inspect;
mod items;
mod jobs;
mod limits;
mod location;
mod operations;
mod out;
mod passwords;
mod prune;
mod redrive;
mod run;
mod schema;
mod show;
mod status;
mod table;

use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook};
use std::process::ExitCode;

use clap::Parser;
use gristmill_sandbox::{COMPILE_ARGUMENT, compile_as_child};

use crate::args::{Cli, Command};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::out::Out;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|first| first == COMPILE_ARGUMENT) {
        return compile();
    }
    if let Err(failure) = expect_text() {
        Out::new(false).failure(&failure);
        return failure.exit().into();
    }
    let cli = Cli::parse();
    let out = Out::new(cli.json);
    out.start_log(cli.verbose);
    let hook_out = out.clone();
    set_hook(Box::new(move |panic| hook_out.failure(&bug(panic))));
    let context = Context::new(out.clone(), cli.data, cli.tracker);
    // The panic hook has already reported it.
    let result = catch_unwind(AssertUnwindSafe(|| limits::prepare().and_then(|()| perform(cli.command, &context))))
        .unwrap_or(Err(Failure::Said(Exit::Internal)));
    out.end_bar();
    let exit = result.unwrap_or_else(|failure| {
        out.failure(&failure);
        failure.exit()
    });
    exit.into()
}

/// The work of a compiling child. Only its parent reads its output.
fn compile() -> ExitCode {
    let arguments = std::env::args_os().skip(2).filter_map(|argument| argument.into_string().ok());
    match compile_as_child(arguments, std::io::stdin().lock(), std::io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn perform(command: Command, context: &Context) -> Result<Exit, Failure> {
    match command {
        Command::Run(args) => run::run(&args, context),
        Command::Check(args) => check::check(&args, context),
        Command::Build(args) => build::build(&args, context),
        Command::Inspect(args) => inspect::inspect(&args, context),
        Command::Status(args) => status::status(&args, context),
        Command::Items(args) => items::items(&args, context),
        Command::Show(args) => show::show(&args, context),
        Command::Attempts(args) => attempts::attempts(&args, context),
        Command::Dead(args) => dead::dead(&args, context),
        Command::Redrive(args) => redrive::redrive(&args, context),
        Command::Operations(args) => operations::operations(&args, context),
        Command::Cancel(args) => cancel::cancel(&args, context),
        Command::Discover(args) => discover::discover(&args, context),
        Command::Events(args) => events::events(&args, context),
        Command::Prune(args) => prune::prune(&args, context),
        Command::Doctor(args) => doctor::doctor(&args, context),
        Command::Backup(args) => backup::backup(&args, context),
        Command::Restore(args) => backup::restore(&args, context),
        Command::Tracker(args) => copy::tracker(&args, context),
        Command::Bench(args) => bench::bench(&args, context),
        Command::Schema(args) => schema::schema(&args, context),
    }
}

/// Refuses arguments that are not UTF-8: names and paths are recorded, printed and repeated in hints, and must stay
/// unchanged.
fn expect_text() -> Result<(), Failure> {
    let variables = [data::VARIABLE, location::VARIABLE].into_iter().filter_map(std::env::var_os);
    match std::env::args_os().chain(variables).find(|argument| argument.to_str().is_none()) {
        Some(wrong) => {
            let wrong = format::printable(&wrong.to_string_lossy());
            Err(Failure::new(Exit::Usage, format!("`{wrong}` is not UTF-8 text")).hint("rename the file or folder"))
        }
        None => Ok(()),
    }
}

/// The message for a person, in place of a backtrace. A library may panic because the machine refuses something.
fn bug(panic: &PanicHookInfo<'_>) -> Failure {
    let message = panic.payload_as_str().unwrap_or("no message");
    if let Some(refusal) = limits::refusal(message) {
        return Failure::of_machine("this machine refuses what gristmill takes", &refusal);
    }
    let place = panic.location().map(|at| format!(" ({}:{})", at.file(), at.line())).unwrap_or_default();
    Failure::new(Exit::Internal, format!("this is a bug in gristmill: {}{place}", format::one_line(message, 500)))
        .hint("nothing that was settled is lost; please report this line, `gristmill --version` and what you ran")
}
