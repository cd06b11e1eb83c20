//! `gristmill inspect`: shows what a component is.
//!
//! Owns the output. Compiles the component, or takes it from the cache, to ask which stages it offers. Never runs a
//! stage.

use std::path::PathBuf;

use gristmill_sandbox::Inspection;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::{bytes, printable};
use crate::jobs;

/// Show what a component is: identity, size, stages, exports, imports, and the grants it can use
#[derive(clap::Args)]
#[command(after_help = "Example:
  gristmill inspect handlers/crates/crates.wasm

With --json: component (the identity: a hash of the file without custom sections), raw_hash (of the file as it is), \
                        size_bytes, offers, stages (name, description), exports, imports, grants (import, yaml, \
                        without, notable), producers.")]
pub(crate) struct Args {
    /// The component
    #[arg(value_name = "FILE.wasm")]
    file: PathBuf,
}

pub(crate) fn inspect(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let mut inspection = gristmill_sandbox::inspect(&args.file)?;
    // A component that this host cannot load can still be inspected.
    let loaded = jobs::sandbox(context, [], 1, false)?.load(&args.file);
    if let Ok(handler) = &loaded {
        inspection.stages.clone_from(&handler.report().stages);
    }
    if context.out.json {
        context.out.document(&inspection)?;
    } else {
        context.out.line(describe(&args.file.display().to_string(), &inspection))?;
    }
    loaded?;
    Ok(Exit::Ok)
}

fn describe(file: &str, inspection: &Inspection) -> String {
    let mut lines = vec![
        file.to_owned(),
        format!("component {}", inspection.hash),
        format!("size      {}", bytes(inspection.size_bytes)),
    ];
    let mut section = |title: &str, entries: Vec<String>| {
        for (index, entry) in entries.iter().enumerate() {
            let title = if index == 0 { title } else { "" };
            lines.push(format!("{title:<10}{}", printable(entry)));
        }
    };
    let or_none = |entries: Vec<String>| if entries.is_empty() { vec!["none".to_owned()] } else { entries };
    let stages = inspection.stages.iter().flatten().map(|stage| format!("{}: {}", stage.name, stage.description));
    section("stages", or_none(stages.collect()));
    section("exports", or_none(inspection.exports.clone()));
    section("imports", or_none(inspection.imports.clone()));
    let grants = inspection.grants.iter().map(|grant| match grant.yaml {
        Some(yaml) => format!("{yaml}  (without it {} {})", grant.import, grant.without),
        None => format!("nothing grants {}: it {}", grant.import, grant.without),
    });
    section("grants", or_none(grants.collect()));
    section("made by", inspection.producers.clone());
    lines.join("\n")
}
