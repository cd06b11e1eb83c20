//! Building a handler whose source is somebody else's.
//!
//! Owns a build script that goes for everything within reach, and says what it got.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::support::{GRISTMILL, Ran, program, start};

/// A checkout with a handler in it, a home folder with a secret, and a server on this machine.
struct Stranger {
    folder: TempDir,
    server: TcpListener,
}

impl Stranger {
    fn new() -> Self {
        let stranger =
            Self { folder: tempfile::tempdir().unwrap(), server: TcpListener::bind(("127.0.0.1", 0)).unwrap() };
        for folder in ["home", "checkout/.git", "checkout/handler/src"] {
            fs::create_dir_all(stranger.path(folder)).unwrap();
        }
        let write = |file: &str, text: &str| fs::write(stranger.path(file), text).unwrap();
        write("home/secret", "mine");
        write(
            "checkout/handler/Cargo.toml",
            "[package]\nname = \"handler\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n\n[lib]\ncrate-type = [\"cdylib\"]\n",
        );
        write("checkout/handler/Cargo.lock", "version = 4\n\n[[package]]\nname = \"handler\"\nversion = \"0.1.0\"\n");
        write("checkout/handler/src/lib.rs", "#[unsafe(no_mangle)]\npub extern \"C\" fn answer() -> u32 { 42 }\n");
        stranger
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A build script that fails with what it could do.
    fn attack(&self) {
        let address = self.server.local_addr().unwrap();
        let within = |name: &str| self.path(name).display().to_string();
        let script = format!(
            r#"use std::{{fs, net::TcpStream}};
            fn main() {{
                let mut reached = Vec::new();
                if fs::read({secret:?}).is_ok() {{ reached.push("a secret") }}
                if fs::write({planted:?}, "").is_ok() && fs::metadata({home:?}).is_ok_and(|home| home.is_dir())
                    && fs::read_dir({home:?}).unwrap().count() > 1 {{ reached.push("the home folder") }}
                if fs::write({hook:?}, "").is_ok() {{ reached.push("the checkout") }}
                if TcpStream::connect({address:?}).is_ok() {{ reached.push("a server") }}
                if std::env::var_os("TOKEN").is_some() {{ reached.push("the environment") }}
                if !reached.is_empty() {{
                    eprintln!("reached {{}}", reached.join(", "));
                    std::process::exit(1);
                }}
            }}"#,
            home = within("home"),
            secret = within("home/secret"),
            planted = within("home/planted"),
            hook = within("checkout/.git/hook"),
            address = address.to_string(),
        );
        fs::write(self.path("checkout/handler/build.rs"), script).unwrap();
    }

    fn build(&self, args: &[&str]) -> Ran {
        let mut command = program(GRISTMILL, &self.path("checkout"));
        let real = std::env::home_dir().unwrap();
        for (variable, name) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
            command.env(variable, std::env::var_os(variable).unwrap_or_else(|| real.join(name).into()));
        }
        command.env("HOME", self.path("home")).env("TOKEN", "mine");
        start(command.args([&["build", "handler", "--json"], args].concat())).finish()
    }
}

fn text(ran: &Ran, key: &str) -> String {
    ran.json()[key].as_str().unwrap().to_owned()
}

#[test]
fn a_build_in_a_sandbox_touches_nothing_and_makes_the_same_component() {
    let stranger = Stranger::new();
    stranger.attack();
    let within = stranger.build(&["--sandboxed"]).expect(0);
    let planted = |name: &str| stranger.path(name).exists();
    assert!(!planted("home/planted") && !planted("checkout/.git/hook"));
    assert!(planted("checkout/target/sandboxed"));
    // The attack is one: without walls it reaches everything.
    let ran = stranger.build(&[]).expect(3);
    let all = "reached a secret, the home folder, the checkout, a server, the environment";
    assert!(ran.err.contains(all), "{}", ran.err);
    fs::remove_file(stranger.path("checkout/handler/build.rs")).unwrap();
    let without = stranger.build(&[]).expect(0);
    assert_eq!(text(&within, "component"), text(&without, "component"));
}

#[test]
fn what_a_checkout_says_about_cargo_is_obeyed_inside_the_walls_alone() {
    let stranger = Stranger::new();
    let elsewhere = stranger.path("home/elsewhere");
    fs::create_dir_all(stranger.path("checkout/.cargo")).unwrap();
    let tool = stranger.path("checkout/tool");
    let planted = stranger.path("home/planted");
    fs::write(&tool, format!("#!/bin/sh\ntouch '{}'\nshift\nexec rustc \"$@\"\n", planted.display())).unwrap();
    executable(&tool);
    let config = format!("[build]\ntarget-dir = '{}'\nrustc-wrapper = '{}'\n", elsewhere.display(), tool.display());
    fs::write(stranger.path("checkout/.cargo/config.toml"), config).unwrap();
    stranger.build(&["--sandboxed"]).expect(0);
    assert!(!elsewhere.exists() && !planted.exists());
}

#[test]
fn a_build_in_a_sandbox_says_what_it_lacks() {
    let stranger = Stranger::new();
    fs::remove_file(stranger.path("checkout/handler/Cargo.lock")).unwrap();
    let ran = stranger.build(&["--sandboxed"]).expect(3);
    assert!(ran.err.contains("hint: a build in a sandbox changes no lock file"), "{}", ran.err);
    let mut command = program(GRISTMILL, &stranger.path("checkout"));
    command.env("PATH", "/nowhere").args(["build", "handler", "--sandboxed"]);
    let ran = start(&mut command).finish();
    ran.expect_refusal(5, "there is no `bwrap` on the PATH", "`bubblewrap`");
}

fn executable(file: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}
