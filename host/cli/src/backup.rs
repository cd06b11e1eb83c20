//! `gristmill backup` and `gristmill restore`: copies of a data folder at one moment.
//!
//! Owns only the two commands. Never copies a file itself: the tracker does.

use std::path::{Path, PathBuf};

use gristmill_tracker_sqlite::{backup as make_backup, restore as make_restored};
use serde::Serialize;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::shell_word;
use crate::location::Location;

/// Copy a data folder, as it is at this moment, while a host may run
///
/// The copy holds the database and all large outputs. Without --data, it is a copy of the data folder in the current
/// folder.
#[derive(clap::Args)]
#[command(after_help = "Example:
  gristmill backup backups/monday --data jobs/.gristmill

With --json, one object: from, to.")]
pub(crate) struct Args {
    /// Where to: a folder that does not exist yet, or is empty
    folder: PathBuf,
}

/// Make a data folder out of a backup
///
/// Every large output is verified first. A data folder that already holds a tracker is not changed.
#[derive(clap::Args)]
#[command(after_help = "Example:
  gristmill restore backups/monday --data jobs/.gristmill

With --json, one object: from, to.")]
pub(crate) struct RestoreArgs {
    /// The backup
    folder: PathBuf,
}

#[derive(Serialize)]
struct Record {
    from: String,
    to: String,
}

pub(crate) fn backup(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let data = data_folder(context, "pg_dump", "pg_dump --schema=gristmill")?;
    make_backup(&data, &args.folder)?;
    tell("copied", &data, &args.folder, context)?;
    if !context.out.json {
        let folder = shell_word(&args.folder.display().to_string());
        context.out.note(format_args!("`gristmill restore {folder} --data FOLDER` makes a data folder out of it"));
    }
    Ok(Exit::Ok)
}

pub(crate) fn restore(args: &RestoreArgs, context: &Context) -> Result<Exit, Failure> {
    let data = data_folder(context, "pg_restore", "psql or pg_restore")?;
    make_restored(&args.folder, &data)?;
    tell("restored", &args.folder, &data, context)?;
    Ok(Exit::Ok)
}

/// The data folder, if the tracker is in one.
fn data_folder(context: &Context, tool: &str, how: &str) -> Result<PathBuf, Failure> {
    match Location::of(context, None)? {
        Location::Folder(folder) => Ok(folder),
        Location::Postgres(_) => {
            let message = format!("a tracker in Postgres is the work of {tool}, not of gristmill");
            Err(Failure::new(Exit::Usage, message).hint(format!("use {how}, while hosts may run")))
        }
    }
}

fn tell(what: &str, from: &Path, to: &Path, context: &Context) -> Result<(), Failure> {
    let (from, to) = (from.display().to_string(), to.display().to_string());
    if context.out.json {
        return context.out.document(&Record { from, to });
    }
    context.out.line(format_args!("{what} {from} to {to}"))
}
