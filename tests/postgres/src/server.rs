//! The server's process and its folder.
//!
//! Owns the shell that the server runs under. That shell waits for its standard input to end, which the system does
//! when the test process is gone, and then stops the server and deletes its folder.

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use tokio_postgres::NoTls;

use crate::Setup;

pub(crate) const PASSWORD: &str = "between-us";
/// How often a server that is starting is asked whether it answers.
const ASKED_MAX: u32 = 600;
const ASK_EVERY: Duration = Duration::from_millis(50);
/// How often another port is tried, where somebody else took the free one first.
const PORTS_MAX: u32 = 5;

/// "keep" on the standard input: the folder stays, for the server to be started on it again.
const SCRIPT: &str = r#"
trap : INT TERM HUP
folder="$1"
shift
"$@" >>"$folder/log" 2>&1 &
server=$!
kept=no
while read -r word; do [ "$word" = keep ] && kept=yes; done
kill -QUIT "$server" 2>/dev/null
wait "$server" 2>/dev/null
[ "$kept" = yes ] || rm -rf "$folder"
"#;

#[derive(Debug)]
pub(crate) struct Running {
    folder: PathBuf,
    programs: PathBuf,
    setup: Setup,
    port: u16,
    shell: Option<Child>,
}

impl Running {
    pub(crate) fn start(setup: Setup) -> Self {
        let programs = programs();
        let folder = tempfile::Builder::new().prefix("gristmill-pg-").tempdir().expect("a folder").keep();
        // From here on the folder is the shell's to delete; a failure before it runs leaves it for people to look at.
        std::fs::write(folder.join("password"), PASSWORD).expect("a file");
        if is_root() {
            let chowned = Command::new("chown").args(["-R", "postgres"]).arg(&folder).status().expect("chown");
            assert!(chowned.success(), "the folder is given to the user postgres");
        }
        let made = as_nobody_special(&programs.join("initdb"))
            .args(["--username=gristmill", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"])
            .arg(format!("--pwfile={}", folder.join("password").display()))
            .arg(folder.join("data"))
            .current_dir("/")
            .output()
            .expect("initdb");
        assert!(made.status.success(), "initdb failed: {}", String::from_utf8_lossy(&made.stderr));
        let mut running = Self { folder, programs, setup, port: 0, shell: None };
        for _ in 0..PORTS_MAX {
            running.port = free_port();
            if running.try_start() {
                return running;
            }
            running.stop();
        }
        panic!("Postgres does not start: {}", running.log());
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.shell.as_ref()?;
        let file = std::fs::read_to_string(self.folder.join("data/postmaster.pid")).ok()?;
        file.lines().next()?.trim().parse().ok()
    }

    pub(crate) fn stop(&mut self) {
        let Some(mut shell) = self.shell.take() else { return };
        if let Some(mut input) = shell.stdin.take() {
            input.write_all(b"keep\n").expect("the shell listens");
        }
        shell.wait().expect("the shell ends");
    }

    pub(crate) fn start_again(&mut self) {
        self.stop();
        assert!(self.try_start(), "Postgres does not start again: {}", self.log());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// False: it ended at once, as it does on a port that is taken.
    fn try_start(&mut self) -> bool {
        let mut server = as_nobody_special(&self.programs.join("postgres"));
        server.arg("-D").arg(self.folder.join("data")).arg("-k").arg(&self.folder);
        let synchronous = if self.setup.synchronous_commit { "on" } else { "off" };
        for setting in [
            "listen_addresses=127.0.0.1",
            &format!("port={}", self.port),
            "fsync=off",
            "full_page_writes=off",
            &format!("synchronous_commit={synchronous}"),
            "max_connections=200",
            "shared_buffers=64MB",
        ] {
            server.arg("-c").arg(setting);
        }
        let _ = std::fs::remove_file(self.folder.join("data/postmaster.pid"));
        std::fs::write(self.folder.join("log"), "").expect("a file");
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "gristmill-test-postgres"])
            .arg(&self.folder)
            .arg(server.get_program())
            .args(server.get_args())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .current_dir("/")
            .spawn()
            .expect("a shell");
        self.shell = Some(shell);
        self.answers()
    }

    /// Asks until it answers, from a thread that nothing else runs on.
    fn answers(&self) -> bool {
        let url = format!("postgres://gristmill:{PASSWORD}@127.0.0.1:{}/postgres?connect_timeout=5", self.port);
        let pid_file = self.folder.join("data/postmaster.pid");
        let log = self.folder.join("log");
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                let (_never, timer) = channel::<()>();
                for _ in 0..ASKED_MAX {
                    if runtime.block_on(tokio_postgres::connect(&url, NoTls)).is_ok() {
                        // It may be the server of somebody else who took the port: ours has written its file.
                        return pid_file.exists();
                    }
                    let said = std::fs::read_to_string(&log).unwrap_or_default();
                    if said.contains("could not create any TCP/IP sockets") || said.contains("FATAL:  data directory") {
                        return false;
                    }
                    assert_eq!(timer.recv_timeout(ASK_EVERY), Err(RecvTimeoutError::Timeout));
                }
                false
            });
            asking.join().expect("a thread")
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(mut shell) = self.shell.take() else {
            let _ = std::fs::remove_dir_all(&self.folder);
            return;
        };
        drop(shell.stdin.take());
        let _ = shell.wait();
    }
}

/// Where `initdb` and `postgres` are: on the path, or where Debian puts them, the newest.
fn programs() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).collect::<Vec<_>>();
    let mut installed: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    installed.sort_unstable_by(|a, b| b.cmp(a));
    let whole = |folder: &PathBuf| folder.join("initdb").exists() && folder.join("postgres").exists();
    on_path
        .into_iter()
        .chain(installed.into_iter().map(|(_, folder)| folder))
        .find(whole)
        .expect("these tests need Postgres: install the package `postgresql`, or set DATABASE_URL")
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("id");
    id.stdout.starts_with(b"0\n")
}

/// Postgres refuses to run as root.
fn as_nobody_special(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
    command
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}
