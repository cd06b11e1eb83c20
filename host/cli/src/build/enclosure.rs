//! A build that cannot harm the machine: bubblewrap around cargo and rustc.
//!
//! Owns what a build sees: the system's programs and libraries, the toolchain, cargo's downloads and the repository,
//! all read-only; one target folder to write to; the network only while crates are fetched; and only the variables that
//! it is given. The checkout's own settings (cargo configuration, toolchain file) apply only inside. Never uses a path
//! from the checkout as a place to write to.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::exit::Exit;
use crate::failure::Failure;

/// What a build sees of the system: programs, libraries, and the files for name resolution and certificates.
const SYSTEM: [&str; 21] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/opt",
    "/nix/store",
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/group",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/pki",
    "/etc/resolv.conf",
    "/etc/ssl",
];

/// The environment variables that a build gets.
const ENVIRONMENT: [&str; 5] = ["PATH", "LANG", "LC_ALL", "TERM", "RUSTUP_TOOLCHAIN"];
/// The additional ones for fetching.
const NETWORK: [&str; 10] = [
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CARGO_HTTP_CAINFO",
    "CARGO_HTTP_PROXY",
];

/// What a command may reach.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// No network, and only the target folder to write to.
    Build,
    /// The network, and cargo's downloads.
    Fetch,
}

/// The sandbox around a build.
pub(crate) struct Enclosure {
    /// The only files of the user that the build sees.
    repository: PathBuf,
    /// The only folder to write to. Builds without a sandbox use another one, since they would run the files in it.
    target_folder: PathBuf,
    /// The folder with the files that a build is given, such as the wrapper. The build cannot write to it.
    given_folder: PathBuf,
    home: PathBuf,
    cargo_home: PathBuf,
    rustup_home: PathBuf,
}

impl Enclosure {
    /// The sandbox for a handler's folder, which must be an absolute path without links.
    ///
    /// # Errors
    /// If bubblewrap is missing or does not work on this machine, or if the repository would contain the home folder.
    pub(crate) fn around(folder: &Path) -> Result<Self, Failure> {
        let home = std::env::home_dir().filter(|home| home.is_absolute()).and_then(|home| home.canonicalize().ok());
        let Some(home) = home else {
            return Err(Failure::new(Exit::Usage, "--sandboxed hides the home folder, and HOME names none")
                .hint("set HOME to a folder that is there"));
        };
        let place = |variable: &str, name: &str| {
            let named = std::env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from);
            named.unwrap_or_else(|| home.join(name))
        };
        let (cargo_home, rustup_home) = (place("CARGO_HOME", ".cargo"), place("RUSTUP_HOME", ".rustup"));
        let Some(repository) = repository(folder, &home) else {
            return Err(Failure::new(Exit::Usage, format!("{} is in no folder that could be shown", folder.display()))
                .hint("--sandboxed shows a build its repository and hides the home folder: put the handler in a folder of its own"));
        };
        let target_folder = folder_in(&repository, "target/sandboxed")?;
        let given_folder = folder_in(&repository, "target/gristmill")?;
        let enclosure = Self { repository, target_folder, given_folder, home, cargo_home, rustup_home };
        enclosure.probe()?;
        Ok(enclosure)
    }

    pub(crate) fn target_folder(&self) -> &Path {
        &self.target_folder
    }

    pub(crate) fn given_folder(&self) -> &Path {
        &self.given_folder
    }

    /// Checks whether bubblewrap works.
    fn probe(&self) -> Result<(), Failure> {
        let mut probe = self.enclose(&Command::new("true"), Reach::Build);
        let refused = |reason: &str| {
            Failure::new(Exit::Internal, format!("bubblewrap cannot make a sandbox for the build: {reason}"))
                .hint("the system must allow user namespaces; without --sandboxed, build only what you would run")
        };
        match probe.stdin(Stdio::null()).output() {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => {
                Err(refused(String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("it does not say why")))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Failure::new(
                Exit::Internal,
                "--sandboxed builds with bubblewrap, and there is no `bwrap` on the PATH",
            )
            .hint(
                "install it (its package is called `bubblewrap`); without --sandboxed, build only what you would run",
            )),
            Err(error) => Err(refused(&error.to_string())),
        }
    }

    /// The same command, in the sandbox.
    pub(crate) fn enclose(&self, command: &Command, reach: Reach) -> Command {
        let mut walls = Command::new("bwrap");
        walls.args(["--unshare-all", "--die-with-parent", "--new-session", "--clearenv"]);
        walls.args(["--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"]);
        for path in SYSTEM {
            walls.args(["--ro-bind-try", path, path]);
        }
        walls.arg("--tmpfs").arg(&self.home);
        let mut show = |how: &str, path: &Path| {
            walls.arg(how).arg(path).arg(path);
        };
        show("--ro-bind-try", &self.rustup_home);
        show("--ro-bind-try", &self.cargo_home);
        if reach == Reach::Fetch {
            show("--bind-try", &self.cargo_home.join("registry"));
            show("--bind-try", &self.cargo_home.join("git"));
        }
        show("--ro-bind", &self.repository);
        show("--bind", &self.target_folder);
        for secret in ["credentials", "credentials.toml"] {
            let file = self.cargo_home.join(secret);
            if file.exists() {
                walls.args(["--ro-bind", "/dev/null"]).arg(file);
            }
        }
        if reach == Reach::Fetch {
            walls.arg("--share-net");
        }
        self.equip(&mut walls, command, reach);
        walls
            .args(command.get_current_dir().into_iter().flat_map(|folder| [OsStr::new("--chdir"), folder.as_os_str()]));
        walls.arg("--").arg(command.get_program()).args(command.get_args());
        walls
    }

    /// Sets the environment in the sandbox.
    fn equip(&self, walls: &mut Command, command: &Command, reach: Reach) {
        let mut set = |name: &OsStr, value: &OsStr| {
            walls.arg("--setenv").arg(name).arg(value);
        };
        let network = if reach == Reach::Fetch { &NETWORK[..] } else { &[] };
        for name in ENVIRONMENT.iter().chain(network) {
            if let Some(value) = std::env::var_os(name) {
                set(OsStr::new(name), &value);
            }
        }
        set(OsStr::new("HOME"), self.home.as_os_str());
        set(OsStr::new("CARGO_HOME"), self.cargo_home.as_os_str());
        set(OsStr::new("RUSTUP_HOME"), self.rustup_home.as_os_str());
        set(OsStr::new("CARGO_TARGET_DIR"), self.target_folder.as_os_str());
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                set(name, value);
            }
        }
    }
}

/// The folder that a build sees: the repository around the handler's folder, or else the outermost folder with a
/// Cargo.toml. Never one that contains the home folder.
fn repository(folder: &Path, home: &Path) -> Option<PathBuf> {
    let around = || folder.ancestors().filter(|folder| !home.starts_with(folder));
    let repository = around().find(|folder| folder.join(".git").exists());
    repository.or_else(|| around().filter(|folder| folder.join("Cargo.toml").is_file()).last()).map(Path::to_path_buf)
}

/// Creates a folder in the repository, and refuses a link that leads elsewhere.
fn folder_in(repository: &Path, name: &str) -> Result<PathBuf, Failure> {
    let folder = repository.join(name);
    let unusable = |reason: &str| {
        Failure::new(Exit::Data, format!("{} cannot be used: {reason}", folder.display()))
            .hint("a build in a sandbox needs that folder: look at who may write to it, and whether it is a link")
    };
    std::fs::create_dir_all(&folder).map_err(|error| unusable(&error.to_string()))?;
    let real = folder.canonicalize().map_err(|error| unusable(&error.to_string()))?;
    // A checkout may contain a link to anywhere.
    if real != folder {
        return Err(unusable(&format!("it is a link to {}", real.display())));
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_shown_its_repository_and_never_the_home_folder() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().canonicalize().unwrap().join("home");
        let make = |path: &str| std::fs::create_dir_all(home.join(path)).unwrap();
        let touch = |path: &str| std::fs::write(home.join(path), "").unwrap();
        make("src/work/handlers/one");
        assert_eq!(repository(&home.join("src/work/handlers/one"), &home), None, "nothing tells where it begins");
        touch("src/work/handlers/one/Cargo.toml");
        touch("src/work/Cargo.toml");
        assert_eq!(repository(&home.join("src/work/handlers/one"), &home), Some(home.join("src/work")));
        make("src/work/handlers/.git");
        assert_eq!(repository(&home.join("src/work/handlers/one"), &home), Some(home.join("src/work/handlers")));
        make(".git");
        touch("Cargo.toml");
        make("other");
        assert_eq!(repository(&home.join("other"), &home), None, "a home folder that is a repository stays hidden");
    }

    #[test]
    fn a_target_folder_that_leads_elsewhere_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let (repository, elsewhere) = (root.join("repository"), root.join("elsewhere"));
        std::fs::create_dir_all(&repository).unwrap();
        std::fs::create_dir_all(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, repository.join("target")).unwrap();
        assert!(folder_in(&repository, "target/sandboxed").is_err());
        std::fs::remove_file(repository.join("target")).unwrap();
        let made = folder_in(&repository, "target/sandboxed");
        assert_eq!(made.ok(), Some(repository.join("target/sandboxed")));
    }
}
