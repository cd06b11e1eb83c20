//! What is given to gristmill and means harm: data folders, backups, paths, servers.
//!
//! Owns one attack in each test, named by the harm that it would have done. After each, the next good run works as
//! usual.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use gristmill_test_postgres::Server;
use rusqlite::Connection;
use rustix::fs::{CWD, FileType, Mode, chown, mknodat};
use rustix::process::{Signal, Uid, geteuid};
use serde_json::json;

use crate::job::{Job, chain};
use crate::support::{GRISTMILL, Ran, components, program, start};

const PASSWORD: &str = "between-us";
const PRECIOUS: &str = "what gristmill must leave alone";

fn job() -> Job {
    Job::new(&chain(&components().noop, 5))
}

/// A job that was run.
fn done() -> Job {
    let job = job();
    job.run(&[]).expect(0);
    job
}

/// A file outside the data folder.
fn precious(job: &Job) -> PathBuf {
    let path = job.path("precious");
    fs::write(&path, PRECIOUS).unwrap();
    path
}

fn pipe(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o777
}

fn with_env(job: &Job, args: &[&str], variables: &[(&str, &str)]) -> Ran {
    let mut command: Command = program(GRISTMILL, job.folder());
    start(command.args(args).envs(variables.iter().copied())).finish()
}

#[test]
fn a_link_in_a_data_folder_is_not_followed() {
    let names = ["host.lock", "tracker.db", "tracker.db-wal", "tracker.db-shm", "tracker.db-journal"];
    for name in names.into_iter().chain(["tracker.db.unfinished", "blobs", "components"]) {
        for (says, plant) in [
            ("is a symbolic link", symlink as fn(PathBuf, PathBuf) -> std::io::Result<()>),
            ("is a hard link", |from, to| fs::hard_link(from, to)),
            ("is a pipe", |_, to| {
                pipe(&to);
                Ok(())
            }),
        ] {
            let job = job();
            let file = precious(&job);
            let before = mode(&file);
            fs::create_dir(job.path(".gristmill")).unwrap();
            let planted = job.path(".gristmill").join(name);
            plant(file.clone(), planted.clone()).unwrap();
            job.gristmill(&["run", "job.yaml"]).expect_refusal(4, &format!("{name} {says}"), "--data");
            assert_eq!((fs::read_to_string(&file).unwrap().as_str(), mode(&file)), (PRECIOUS, before), "{name}");
            fs::remove_file(planted).unwrap();
            job.run(&[]).expect(0);
        }
    }
}

#[test]
fn a_data_folder_that_is_a_link_in_a_checkout_is_not_followed() {
    let job = job();
    fs::create_dir(job.path("elsewhere")).unwrap();
    symlink("elsewhere", job.path(".gristmill")).unwrap();
    job.run(&[]).expect_refusal(4, ".gristmill is a symbolic link", "name the folder that it leads to with --data");
    assert_eq!(fs::read_dir(job.path("elsewhere")).unwrap().count(), 0);
    // What a person names may be a link.
    job.run(&["--data", ".gristmill"]).expect(0);
}

#[test]
fn a_data_folder_of_another_user_is_refused() {
    if !geteuid().is_root() {
        return;
    }
    let job = done();
    for name in [".gristmill/tracker.db", ".gristmill"] {
        let own = |user| chown(job.path(name), Some(Uid::from_raw(user)), None).unwrap();
        own(54_321);
        for command in ["run", "status", "doctor", "backup"] {
            let args = if command == "backup" { [command, "copy"] } else { [command, "job.yaml"] };
            let args = if command == "doctor" { &args[..1] } else { &args[..] };
            job.gristmill(args).expect_refusal(4, &format!("{name} belongs to another user"), "--data");
        }
        own(0);
        job.run(&[]).expect(0);
    }
}

#[test]
fn a_journal_that_names_another_file_deletes_none() {
    let job = done();
    let file = precious(&job);
    let name = file.canonicalize().unwrap().display().to_string();
    let magic = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
    let number = |number: u32| number.to_be_bytes();
    // A header without pages, and the name of a super-journal, as SQLite writes them.
    let mut journal = [&magic[..], &number(0), &number(7), &number(1), &number(512), &number(4096)].concat();
    journal.resize(512, 0);
    journal.extend(number(0x4000_0000 / 4096 + 1));
    journal.extend(name.as_bytes());
    journal.extend(number(name.len() as u32));
    journal.extend(number(name.bytes().map(u32::from).sum()));
    journal.extend(magic);
    fs::write(job.path(".gristmill/tracker.db-journal"), journal).unwrap();
    for args in [&["run", "job.yaml"][..], &["status"], &["doctor"], &["restore", ".gristmill", "--data", "new"]] {
        let says = "tracker.db-journal is a journal that would have another file deleted";
        job.gristmill(args).expect_refusal(4, says, "--data");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), PRECIOUS);
    fs::remove_file(job.path(".gristmill/tracker.db-journal")).unwrap();
    job.run(&[]).expect(0);
}

#[test]
fn nobody_else_reads_a_data_folder_whatever_the_umask() {
    let job = job();
    let script = "umask 000; \"$0\" run job.yaml && \"$0\" backup copy && \"$0\" restore copy --data again";
    start(program("sh", job.folder()).args(["-euc", script, GRISTMILL])).finish().expect(0);
    for folder in [".gristmill", "copy", "again"] {
        assert_eq!(mode(&job.path(folder)), 0o700, "{folder}");
        for entry in fs::read_dir(job.path(folder)).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(mode(&path), if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
        }
    }
}

#[test]
fn a_data_folder_that_was_open_is_closed_and_that_is_said_once() {
    let job = done();
    let open = |name: &str, mode| fs::set_permissions(job.path(name), Permissions::from_mode(mode)).unwrap();
    open(".gristmill", 0o755);
    open(".gristmill/tracker.db", 0o644);
    let said = |ran: Ran| ran.expect(0).err.matches(".gristmill was open to other users").count();
    assert_eq!(said(job.run(&[])), 1);
    assert_eq!((mode(&job.path(".gristmill")), mode(&job.database())), (0o700, 0o600));
    assert_eq!(said(job.run(&[])), 0);
    // A folder of other things is not closed to whoever uses those.
    fs::create_dir(job.path("home")).unwrap();
    open("home", 0o755);
    fs::write(job.path("home/letter"), "").unwrap();
    let ran = job.run(&["--data", "home"]).expect(0);
    assert!(ran.err.contains("home holds other files too, and stays open"), "{}", ran.err);
    assert_eq!((mode(&job.path("home")), mode(&job.path("home/tracker.db"))), (0o755, 0o600));
}

#[test]
fn a_trigger_in_a_backup_changes_nothing_behind_ones_back() {
    for (planted, name) in [
        (
            "CREATE TRIGGER evil AFTER INSERT ON attempts BEGIN UPDATE item_data SET data = '\"evil\"'; END",
            "trigger `evil`",
        ),
        ("CREATE VIEW evil AS SELECT * FROM items", "view `evil`"),
        ("CREATE INDEX evil ON item_data (upper(data))", "index `evil`"),
        ("CREATE TABLE evil (x)", "table `evil`"),
        ("DROP INDEX queue_ready", "index `queue_ready`"),
        ("ALTER TABLE item_data ADD COLUMN evil TEXT GENERATED ALWAYS AS (upper(data)) VIRTUAL", "table `item_data`"),
    ] {
        let job = done();
        job.gristmill(&["backup", "copy"]).expect(0);
        for database in [job.path("copy/tracker.db"), job.database()] {
            Connection::open(database).unwrap().execute_batch(planted).unwrap();
        }
        let says = format!("the tracker's schema is not as gristmill makes it: {name} is");
        for args in [&["restore", "copy", "--data", "new"][..], &["run", "job.yaml"], &["doctor"], &["status"]] {
            job.gristmill(args).expect_refusal(4, &says, "use a backup that you trust");
        }
        assert!(!job.path("new/tracker.db").exists());
        fs::remove_dir_all(job.path(".gristmill")).unwrap();
        job.run(&[]).expect(0);
    }
}

#[test]
fn a_text_that_was_changed_behind_ones_back_is_found() {
    for (change, what) in [
        ("UPDATE item_data SET data = '\"evil\"' WHERE id = 1", "data of an item"),
        ("UPDATE item_stages SET output = '\"evil\"' WHERE key = (SELECT min(key) FROM item_stages)", "output"),
    ] {
        let job = done();
        Connection::open(job.database()).unwrap().execute_batch(change).unwrap();
        let found = job.gristmill(&["doctor", "--json"]).expect(1).json();
        assert_eq!((&found["differences_total"], &found["differences"][0]["kind"]), (&json!(1), &json!(what)));
        job.run(&[]).expect(0);
    }
}

#[test]
fn a_text_that_was_changed_in_postgres_is_found() {
    let database = Server::shared().database();
    let job = Job::on(database.url(), &chain(&components().noop, 5));
    job.run(&[]).expect(0);
    database.execute(
        "UPDATE gristmill.item_data SET data = '\"evil\"' WHERE id = (SELECT min(id) FROM gristmill.item_data);
         UPDATE gristmill.item_stages SET output = '\"evil\"' WHERE key = (SELECT max(key) FROM gristmill.item_stages)",
    );
    let found = job.gristmill(&["doctor", "--json"]).expect(1).json();
    let kinds: Vec<_> = found["differences"].as_array().unwrap().iter().map(|found| &found["kind"]).collect();
    assert_eq!(kinds, ["data of an item", "output"]);
}

#[test]
fn a_device_or_a_pipe_in_place_of_a_file_keeps_nobody_waiting() {
    let noop = &components().noop;
    let job = job();
    pipe(&job.path("pipe"));
    let stage =
        |stage: &str| job.write(&format!("discover: {{ handler: {noop:?} }}\nstages: [{{ name: a, {stage} }}]"));
    for (lines, says) in [
        (format!("handler: {noop:?}, inputs: [/dev/zero]"), "the input /dev/zero: it is a device"),
        (format!("handler: {noop:?}, inputs: [pipe]"), "the input pipe: it is a pipe"),
        ("handler: pipe".to_owned(), "it is a pipe"),
        ("handler: /dev/zero".to_owned(), "it is a device"),
    ] {
        stage(&lines);
        for command in ["check", "run"] {
            let ran = job.gristmill(&[command, "job.yaml"]).expect(3);
            assert!(ran.err.contains(says), "{says:?} is not in\n{}", ran.err);
        }
    }
    let ran = job.gristmill(&["check", "./pipe"]).expect(3);
    assert!(ran.err.contains("the job file cannot be read: it is a pipe"), "{}", ran.err);
    let ran = job.gristmill(&["inspect", "pipe"]).expect(3);
    assert!(ran.err.contains("it is a pipe"), "{}", ran.err);
    fs::create_dir(job.path("copy")).unwrap();
    pipe(&job.path("copy/tracker.db"));
    job.gristmill(&["restore", "copy", "--data", "new"]).expect_refusal(4, "tracker.db is a pipe", "--data");
    job.write(&chain(noop, 5));
    job.run(&[]).expect(0);
    let ran = job.gristmill(&["status", "./pipe"]).expect(2);
    assert!(ran.err.contains("cannot be read: it is a pipe"), "{}", ran.err);
}

#[test]
fn a_grant_that_gives_away_the_house_is_refused_with_its_place() {
    for (granted, says) in [
        (".", "gives the handler the data folder"),
        (".gristmill/blobs", "gives the handler the data folder"),
        ("/proc/self", "gives the handler what /proc tells"),
        ("/", "gives the handler all of this machine's files"),
    ] {
        let job = done();
        let (noop, granted) = (json!(components().noop), json!(granted));
        job.write(&format!(
            "discover: {{ handler: {noop} }}\nstages:\n  - name: a\n    grants: {{ files: {{ /in: {granted} }} }}"
        ));
        for command in ["check", "run"] {
            let ran = job.gristmill(&[command, "job.yaml"]).expect(3);
            assert!(ran.err.contains("job.yaml:6:29: ") && ran.err.contains(says), "{}", ran.err);
        }
        job.write(&chain(&components().noop, 5));
        job.run(&[]).expect(0);
    }
}

/// A database server of another machine that offers no TLS. What it is sent after that is what a listener would read.
/// (The system takes 0.0.0.0 for this machine; nothing says that it has to.)
fn in_clear(sslmode: &str) -> (Ran, Vec<u8>) {
    let listener = TcpListener::bind(("0.0.0.0", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 8]).unwrap();
        stream.write_all(b"N").unwrap();
        let mut sent = Vec::new();
        stream.read_to_end(&mut sent).unwrap();
        sent
    });
    let url = format!("postgres://ann:{PASSWORD}@0.0.0.0:{port}/mill{sslmode}");
    let ran = with_env(&job(), &["status"], &[("GRISTMILL_TRACKER", &url)]);
    (ran, server.join().unwrap())
}

#[test]
fn a_server_that_refuses_tls_gets_no_password() {
    for sslmode in ["", "?sslmode=prefer", "?sslmode=require"] {
        let (ran, sent) = in_clear(sslmode);
        ran.expect_refusal(4, "cannot be reached by TLS", "a tunnel that ends on this machine");
        assert_eq!(sent, b"", "{sslmode}");
    }
    let job = job();
    let url = format!("postgres://ann:{PASSWORD}@db.example.org/mill?sslmode=disable");
    let ran = with_env(&job, &["status"], &[("GRISTMILL_TRACKER", &url)]);
    let ran = ran.expect_refusal(4, "the password for postgres://ann@db.example.org:5432/mill", "leave `sslmode` out");
    assert!(!ran.err.contains(PASSWORD));
}

#[test]
fn a_password_need_not_be_on_the_command_line() {
    let (database, second) = (Server::shared().database(), Server::shared().database());
    let bare = |url: String| url.replace(&format!(":{PASSWORD}@"), "@");
    let url = bare(database.url());
    let job = done();
    let copy = ["tracker", "copy", "--from", "sqlite:.gristmill", "--to", &url];
    with_env(&job, &copy, &[("PGPASSWORD", PASSWORD)]).expect(0);
    let to_env = ["tracker", "copy", "--from-env", "FROM", "--to-env", "TO"];
    with_env(&job, &to_env, &[("FROM", &database.url()), ("TO", &second.url())]).expect(0);
    with_env(&job, &to_env, &[("FROM", "sqlite:.gristmill")]).expect_refusal(
        2,
        "the environment has no `TO`",
        "postgres://",
    );

    let passfile = job.path("pgpass").display().to_string();
    fs::write(&passfile, format!("# mine\n*:*:*:gristmill:{PASSWORD}\n")).unwrap();
    fs::set_permissions(&passfile, Permissions::from_mode(0o600)).unwrap();
    let status = || with_env(&job, &["status", "--tracker", &url], &[("PGPASSFILE", &passfile)]);
    status().expect(0);
    fs::set_permissions(&passfile, Permissions::from_mode(0o644)).unwrap();
    let ran = status().expect_refusal(4, "no password was given", "PGPASSWORD, a passfile");
    assert!(ran.err.contains("is not used: other users may read it; `chmod 600` closes it"), "{}", ran.err);
    assert!(!ran.err.contains(PASSWORD));
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

fn ask(port: u16, host: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET /api/jobs HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_page_that_has_its_own_name_lead_here_reads_nothing() {
    let job = done();
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let mut host = job.start(&["--watch", "--listen", &address, "--allow-host", "mill.example"]);
    host.says(&format!("listening on http://{address}"));
    let refused = ask(port, "evil.example");
    assert!(refused.starts_with("HTTP/1.1 421 ") && refused.contains("--allow-host"), "{refused}");
    for own in [&address, &format!("localhost:{port}"), "mill.example"] {
        assert!(ask(port, own).starts_with("HTTP/1.1 200 "), "{own}");
    }
    host.signal(Signal::INT);
    let ran = host.finish().expect(0);
    assert!(!ran.err.contains("other machines"), "{}", ran.err);
}

#[test]
fn a_listener_that_other_machines_reach_is_warned_of() {
    let job = done();
    let ran = job.run(&["--listen", "0.0.0.0:0"]).expect(0);
    assert!(ran.err.contains("warning: other machines can read every item, output and log there"), "{}", ran.err);
}

#[test]
fn connections_that_send_nothing_keep_nobody_away() {
    let job = done();
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let mut host = job.start(&["--watch", "--listen", &address]);
    host.says(&format!("listening on http://{address}"));
    let silent: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = TcpStream::connect(&address).unwrap();
            stream.write_all(b"G").unwrap();
            stream
        })
        .collect();
    assert!(ask(port, "localhost").starts_with("HTTP/1.1 200 "));
    drop(silent);
    host.signal(Signal::INT);
    host.finish().expect(0);
}
