//! `gristmill schema`: prints the schema of job files for editors.
//!
//! Owns nothing: `config` makes the schema.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;

/// Print the JSON Schema of job files, for editors
#[derive(clap::Args)]
#[command(after_help = "Example:
  gristmill schema > job.schema.json
  # and as the first line of a job file: # yaml-language-server: $schema=job.schema.json")]
pub(crate) struct Args {}

pub(crate) fn schema(_: &Args, context: &Context) -> Result<Exit, Failure> {
    context.out.document(&gristmill_config::schema())?;
    Ok(Exit::Ok)
}
