//! How a folder becomes a component: the toolchain, the flags, the wrapper around rustc.
//!
//! Owns the recipe, so that the bytes depend only on the meaning of the source. It gives the same bytes as `cargo build
//! --release` under `handlers/`; a test compares the flags. Never writes outside cargo's target folder.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde::Deserialize;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::out::Out;

use super::enclosure::{Enclosure, Reach};
use super::replace;

const TARGET: &str = "wasm32-wasip2";
/// Leaves lines and columns of panics out of the data section.
const FLAGS: &str = "-Zlocation-detail=none";
/// Names crates by their name alone, so that another folder does not reorder functions.
const WRAPPER: &str = include_str!("../../../../handlers/.cargo/rustc.sh");
/// Settings that the workspace's profile cannot change: with other values, equal sources may give different bytes.
const PROFILE: [(&str, &str); 4] = [
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
    ("CARGO_PROFILE_RELEASE_LTO", "true"),
    ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
    ("CARGO_PROFILE_RELEASE_STRIP", "true"),
];
/// Allows one unstable flag, only for the handlers' build. It is a setting of cargo, so that cargo itself stays stable.
const BOOTSTRAP: &str = "env.RUSTC_BOOTSTRAP=\"1\"";

/// A handler's folder, and how to build it.
pub(crate) struct Recipe {
    folder: PathBuf,
    package: Package,
    target_folder: PathBuf,
    debug: bool,
    /// The sandbox around the build; none without `--sandboxed`.
    enclosure: Option<Enclosure>,
}

/// What cargo reports about a workspace.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    crate_types: Vec<String>,
}

/// What cargo reports about a build, line by line. Other lines lack a field.
#[derive(Deserialize)]
struct Artifact {
    package_id: String,
    target: Target,
    filenames: Vec<PathBuf>,
}

impl Target {
    fn is_component(&self) -> bool {
        self.crate_types.iter().any(|kind| kind == "cdylib")
    }
}

impl Recipe {
    /// Inspects a folder, and makes sure that everything for its build is there.
    pub(crate) fn of(folder: &Path, debug: bool, sandboxed: bool, out: &Out) -> Result<Self, Failure> {
        let shown = folder.display();
        let wrong = |message: String| Failure::new(Exit::Job, message);
        let folder = folder.canonicalize().map_err(|error| {
            wrong(format!("{shown} cannot be opened: {error}")).hint("name the folder of a handler's Cargo.toml")
        })?;
        let manifest = folder.join("Cargo.toml");
        if !manifest.is_file() {
            return Err(wrong(format!("{shown} is no handler written in Rust: it has no Cargo.toml"))
                .hint("components made with other tools need no build: `gristmill inspect` tells whether one fits"));
        }
        let enclosure = sandboxed.then(|| Enclosure::around(&folder)).transpose()?;
        let metadata = metadata(&folder, &shown.to_string(), enclosure.as_ref())?;
        let package = metadata.packages.into_iter().find(|package| package.manifest_path == manifest);
        let Some(package) = package else {
            return Err(wrong(format!("{shown} is a workspace, and no handler itself")).hint("name a member's folder"));
        };
        if !package.targets.iter().any(Target::is_component) {
            return Err(wrong(format!("{shown} is no handler: its library is not built as a component"))
                .hint("add `[lib] crate-type = [\"cdylib\"]` to its Cargo.toml"));
        }
        install_target(&folder, enclosure.as_ref(), out)?;
        let target_folder = match &enclosure {
            Some(enclosure) => enclosure.target_folder().to_owned(),
            None => metadata.target_directory,
        };
        Ok(Self { folder, package, target_folder, debug, enclosure })
    }

    /// The component's file name: that of its folder.
    pub(crate) fn file_name(&self) -> String {
        let name = self.folder.file_name().map_or_else(|| self.package.name.clone().into(), ToOwned::to_owned);
        format!("{}.wasm", name.to_string_lossy())
    }

    /// Runs cargo, whose output goes to the standard error. Returns the component's file.
    pub(crate) fn build(&self) -> Result<PathBuf, Failure> {
        let mut cargo = cargo(&self.folder);
        cargo.args(["build", "--target", TARGET, "--lib", "--message-format=json-render-diagnostics"]);
        if !self.debug {
            cargo.args(["--release", "--config", BOOTSTRAP]).envs(PROFILE).env("CARGO_ENCODED_RUSTFLAGS", FLAGS);
            cargo.env("RUSTC_WRAPPER", self.wrapper()?).env_remove("RUSTC_WORKSPACE_WRAPPER");
        }
        if self.enclosure.is_some() {
            self.fetch()?;
            cargo.args(["--locked", "--offline"]);
        }
        let output = run(enclosed(cargo, self.enclosure.as_ref(), Reach::Build).stderr(Stdio::inherit()))?;
        if !output.status.success() {
            return Err(self.not_built());
        }
        let messages = String::from_utf8_lossy(&output.stdout);
        let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<Artifact>(line).ok());
        let ours = artifacts.filter(|one| one.package_id == self.package.id && one.target.is_component());
        let mut files = ours.flat_map(|artifact| artifact.filenames);
        // A sandboxed build may report any file name.
        let made = |file: &PathBuf| match &self.enclosure {
            Some(_) => file.canonicalize().is_ok_and(|file| file.starts_with(&self.target_folder)),
            None => true,
        };
        files.find(|file| file.extension().is_some_and(|ending| ending == "wasm") && made(file)).ok_or_else(|| {
            Failure::new(Exit::Job, format!("cargo built `{}`, and no component came of it", self.package.name))
        })
    }

    /// Downloads the crates, so that the build needs no network.
    fn fetch(&self) -> Result<(), Failure> {
        let mut fetch = cargo(&self.folder);
        fetch.args(["fetch", "--locked", "--quiet"]);
        let output = run(enclosed(fetch, self.enclosure.as_ref(), Reach::Fetch).stderr(Stdio::inherit()))?;
        if output.status.success() {
            return Ok(());
        }
        Err(self.not_built().hint("a build in a sandbox changes no lock file: `cargo generate-lockfile` makes one"))
    }

    fn not_built(&self) -> Failure {
        Failure::new(Exit::Job, format!("`{}` was not built: cargo says why above", self.package.name))
    }

    /// Writes the wrapper into cargo's target folder, which is writable and from which programs can run.
    fn wrapper(&self) -> Result<PathBuf, Failure> {
        let folder = match &self.enclosure {
            Some(enclosure) => enclosure.given_folder().to_owned(),
            None => self.target_folder.join("gristmill"),
        };
        let file = folder.join("rustc.sh");
        let is_there = std::fs::read(&file).is_ok_and(|content| content == WRAPPER.as_bytes());
        if !is_there {
            let written = std::fs::create_dir_all(&folder).and_then(|()| replace(&file, WRAPPER.as_bytes(), 0o755));
            written.map_err(|error| {
                Failure::new(Exit::Data, format!("{} cannot be written: {error}", file.display()))
                    .hint("name a folder for cargo's files with CARGO_TARGET_DIR")
            })?;
        }
        Ok(file)
    }
}

fn metadata(folder: &Path, shown: &str, enclosure: Option<&Enclosure>) -> Result<Metadata, Failure> {
    let mut command = cargo(folder);
    command.args(["metadata", "--no-deps", "--format-version=1"]);
    let output = run(enclosed(command, enclosure, Reach::Build).stderr(Stdio::inherit()))?;
    if !output.status.success() {
        return Err(Failure::new(Exit::Job, format!("cargo cannot read {shown}: it says why above")));
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| Failure::new(Exit::Internal, format!("cargo's metadata cannot be read: {error}")))
}

/// Installs the target if rustup is there. A toolchain without rustup may already have it.
fn install_target(folder: &Path, enclosure: Option<&Enclosure>, out: &Out) -> Result<(), Failure> {
    let mut command = program("RUSTC", "rustc", folder);
    command.args(["--print=target-libdir", "--target", TARGET]);
    let libraries = run(&mut enclosed(command, enclosure, Reach::Build))?;
    let libraries = String::from_utf8_lossy(&libraries.stdout).trim().to_owned();
    if !libraries.is_empty() && Path::new(&libraries).is_dir() {
        return Ok(());
    }
    out.note(format_args!("installing the target {TARGET}: rustup target add {TARGET}"));
    let added = Command::new("rustup").args(["target", "add", TARGET]).current_dir(folder).status();
    match added {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(Failure::new(Exit::Internal, format!("rustup could not install the target {TARGET}"))
            .hint("look at what it says above: it has to download the target once")),
        Err(_) => {
            Err(Failure::new(Exit::Internal, format!("this Rust has no target {TARGET}, and there is no rustup"))
                .hint("install rustup, or the standard library for that target from where your Rust came from"))
        }
    }
}

/// The command, in the sandbox if there is one.
fn enclosed(command: Command, enclosure: Option<&Enclosure>, reach: Reach) -> Command {
    match enclosure {
        Some(enclosure) => enclosure.enclose(&command, reach),
        None => command,
    }
}

fn cargo(folder: &Path) -> Command {
    program("CARGO", "cargo", folder)
}

/// A program of the toolchain that the folder asks for.
fn program(variable: &str, name: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::var_os(variable).unwrap_or_else(|| name.into()));
    command.current_dir(folder);
    command
}

fn run(command: &mut Command) -> Result<Output, Failure> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).output().map_err(|error| {
        let name = command.get_program().to_string_lossy().into_owned();
        Failure::new(Exit::Internal, format!("`{name}` cannot be started: {error}"))
            .hint("to build a handler takes Rust: cargo and rustc, on the PATH")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A component must not depend on who built it: `gristmill build`, or cargo under `handlers/`.
    #[test]
    fn the_recipe_is_that_of_the_handlers() {
        let config = include_str!("../../../../handlers/.cargo/config.toml");
        assert!(config.contains(&format!("rustflags = [\"{FLAGS}\"]")));
        assert!(config.contains(&format!("target = \"{TARGET}\"")));
        assert!(config.contains("RUSTC_BOOTSTRAP = \"1\""));
        let manifest = include_str!("../../../../handlers/Cargo.toml");
        let (_, profile) = manifest.split_once("[profile.release]").unwrap();
        for (variable, value) in PROFILE {
            let key = variable.trim_start_matches("CARGO_PROFILE_RELEASE_").to_lowercase().replace('_', "-");
            let set = [format!("{key} = {value}"), format!("{key} = \"{value}\"")];
            assert!(profile.lines().any(|line| set.iter().any(|set| line == set)), "{key}");
        }
    }
}
