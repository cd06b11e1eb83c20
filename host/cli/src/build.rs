//! `gristmill build`: a handler's folder in, its component out.
//!
//! Owns what happens with a finished component: where it is written, and the report about it. Never compiles: `recipe`
//! does. Never leaves half a file behind.

mod enclosure;
mod recipe;

use std::io::Write;
use std::path::{Path, PathBuf};

use gristmill_sandbox::{Inspection, inspect};
use serde::Serialize;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::bytes;

use self::recipe::Recipe;

/// Build handlers written in Rust: a folder each in, a component out
///
/// The component is written to `FOLDER/FOLDER.wasm`. Its bytes depend on what the source means: comments, formatting,
/// names of variables, the folder and the machine do not change them, so they do not make results stale. For that, the
/// build is done with one codegen unit, full link-time optimisation, panic=abort and stripped of symbols, without the
/// lines and columns of panics, whatever the workspace says; `opt-level` and all else is the workspace's. Flags in
/// RUSTFLAGS or in a .cargo/config.toml are not used. The target wasm32-wasip2 is installed with rustup if it is not
/// there.
///
/// A build runs code: the build scripts and procedural macros of the folder, and of all crates that it names. Build only
/// what you would run, or use --sandboxed.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  gristmill build handlers/crates handlers/policy
  gristmill build my-handler -o components/mine.wasm

With --json, an object a folder: folder, file, component, size_bytes, previous, changed.")]
pub(crate) struct Args {
    /// The handlers' folders
    #[arg(required = true, value_name = "FOLDER")]
    folders: Vec<PathBuf>,

    /// Write the component here instead
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Build for debugging: panics say where they are, and formatting changes the version
    #[arg(long)]
    debug: bool,

    /// Build in bubblewrap's sandbox: no network except to fetch crates, no home folder, and no place to write to but
    /// target/sandboxed
    ///
    /// The build sees the system, the toolchain, cargo's downloads without its credentials, and the repository that the
    /// folder lies in, all of it read-only. It needs a Cargo.lock that fits. The component is the same as without.
    #[arg(long)]
    sandboxed: bool,
}

/// What was built.
#[derive(Serialize)]
struct Built {
    folder: String,
    file: String,
    /// Its identity, as `inspect` and `check` show it.
    component: String,
    size_bytes: u64,
    /// The identity of the file that was there before.
    previous: Option<String>,
    changed: bool,
}

pub(crate) fn build(args: &Args, context: &Context) -> Result<Exit, Failure> {
    if args.output.is_some() && args.folders.len() > 1 {
        return Err(Failure::new(Exit::Usage, "--output is for one folder")
            .hint("without it, each component is written into its folder"));
    }
    for folder in &args.folders {
        let recipe = Recipe::of(folder, args.debug, args.sandboxed, &context.out)?;
        let component = recipe.build()?;
        let file = args.output.clone().unwrap_or_else(|| folder.join(recipe.file_name()));
        let built = deliver(folder, &component, &file, context)?;
        if context.out.json {
            context.out.records([built])?;
        } else {
            context.out.line(sentence(&built))?;
        }
    }
    Ok(Exit::Ok)
}

/// Writes a component to its file, and reports whether it is new.
fn deliver(folder: &Path, component: &Path, file: &Path, context: &Context) -> Result<Built, Failure> {
    let inspection = inspect(component)?;
    if offers_nothing(&inspection) {
        context.out.warning(format_args!(
            "{} exports nothing that gristmill calls: it lacks `gristmill_guest::export!`",
            folder.display()
        ));
    }
    // The existing file may be no component at all. Then it is replaced.
    let previous = inspect(file).ok();
    if previous.as_ref().map(|previous| previous.raw_hash) != Some(inspection.raw_hash) {
        let written = std::fs::read(component).and_then(|bytes| replace(file, &bytes, 0o644));
        written.map_err(|error| {
            Failure::new(Exit::Data, format!("{} cannot be written: {error}", file.display()))
                .hint("name another place with --output")
        })?;
    }
    let previous = previous.map(|previous| previous.hash.to_string());
    let identity = inspection.hash.to_string();
    Ok(Built {
        folder: folder.display().to_string(),
        file: file.display().to_string(),
        changed: previous.as_ref() != Some(&identity),
        component: identity,
        size_bytes: inspection.size_bytes,
        previous,
    })
}

fn offers_nothing(inspection: &Inspection) -> bool {
    let offers = &inspection.offers;
    offers.stages.is_none() && offers.discovery.is_none() && offers.merging.is_none()
}

/// Replaces a file atomically: a reader sees either the old one or the new one.
fn replace(file: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let folder = match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let permissions = std::fs::Permissions::from_mode(mode);
    let mut new = tempfile::Builder::new().prefix(".gristmill-").permissions(permissions).tempfile_in(folder)?;
    new.write_all(bytes)?;
    new.as_file().sync_all()?;
    new.persist(file)?;
    Ok(())
}

fn sentence(built: &Built) -> String {
    let news = match &built.previous {
        None => "new".to_owned(),
        Some(_) if !built.changed => "unchanged".to_owned(),
        Some(previous) => format!("changed, was {}", &previous[..12]),
    };
    format!("{}: {}, component {} ({news})", built.file, bytes(built.size_bytes), &built.component[..12])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.wasm");
        for content in [b"one", b"two"] {
            replace(&file, content, 0o644).unwrap();
            assert_eq!(std::fs::read(&file).unwrap(), content);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(replace(&folder.path().join("no/a.wasm"), b"", 0o644).is_err());
    }
}
