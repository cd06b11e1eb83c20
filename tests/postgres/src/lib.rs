//! A real Postgres for tests.
//!
//! Owns one server a test process, which ends with that process however it dies, and the databases made in it. Never
//! used outside tests.

mod server;

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use server::Running;
use tokio_postgres::{NoTls, SimpleQueryMessage};

/// How the server that a test is given is set up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setup {
    /// Whether a commit waits for the log to be written. `fsync` is off in any case.
    pub synchronous_commit: bool,
}

/// A server for tests.
#[derive(Debug)]
pub struct Server {
    /// Where databases are made: everything of the URL but the database, with a slash at its end.
    base: String,
    /// What follows the database in the URL, with its question mark.
    parameters: String,
    /// The database that is there already.
    first: String,
    /// None where `DATABASE_URL` names a server of somebody else.
    own: Option<Running>,
}

impl Server {
    /// The server of this test process: started when it is first asked for. The environment variable `DATABASE_URL`
    /// names another one, in which databases may be made.
    ///
    /// # Panics
    /// If no Postgres is installed, or it does not start.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(|| match std::env::var("DATABASE_URL") {
            Ok(url) if !url.is_empty() => Self::at(&url),
            _ => Self::start(),
        })
    }

    /// A server of this test alone, to be stopped and started by it.
    ///
    /// # Panics
    /// If no Postgres is installed, or it does not start.
    pub fn start() -> Self {
        Self::start_with(Setup::default())
    }

    /// As `start`, set up otherwise.
    ///
    /// # Panics
    /// If no Postgres is installed, or it does not start.
    pub fn start_with(setup: Setup) -> Self {
        let own = Running::start(setup);
        Self {
            base: format!("postgres://gristmill:{}@127.0.0.1:{}/", server::PASSWORD, own.port()),
            parameters: "?sslmode=disable".to_owned(),
            first: "postgres".to_owned(),
            own: Some(own),
        }
    }

    fn at(url: &str) -> Self {
        let (address, parameters) = url.split_at(url.find('?').unwrap_or(url.len()));
        let slash = address.rfind('/').filter(|place| *place > "postgres://".len());
        let (base, first) = address.split_at(slash.expect("DATABASE_URL names a database: postgres://…/name") + 1);
        Self { base: base.to_owned(), parameters: parameters.to_owned(), first: first.to_owned(), own: None }
    }

    /// Makes an empty database with a name of its own.
    ///
    /// # Panics
    /// If the server refuses.
    pub fn database(&self) -> Database<'_> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("gristmill_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        // As a template `template0` is locked by nobody, so that tests side by side do not refuse each other.
        self.execute(&self.first, &format!("CREATE DATABASE {name} TEMPLATE template0"));
        Database { server: self, name }
    }

    /// The address of a database.
    pub fn url(&self, database: &str) -> String {
        format!("{}{database}{}", self.base, self.parameters)
    }

    /// Host and port, for a proxy in between.
    pub fn address(&self) -> &str {
        self.base.trim_end_matches('/').rsplit(['@', '/']).next().unwrap_or_default()
    }

    /// The folder of the server's socket; none for a server of somebody else.
    pub fn socket_folder(&self) -> Option<PathBuf> {
        self.own.as_ref().map(|own| own.folder().to_owned())
    }

    /// The process of a server that this test started.
    ///
    /// # Panics
    /// If it was not started here, or is stopped.
    pub fn pid(&self) -> u32 {
        self.own.as_ref().and_then(Running::pid).expect("a server that was started here and runs")
    }

    /// Stops a server that this test started, at once, as a crash would.
    ///
    /// # Panics
    /// If it was not started here.
    pub fn stop(&mut self) {
        self.own.as_mut().expect("a server that was started here").stop();
    }

    /// Starts the server again that `stop` stopped, on the same port.
    ///
    /// # Panics
    /// If it was not started here, or does not start.
    pub fn start_again(&mut self) {
        self.own.as_mut().expect("a server that was started here").start_again();
    }

    fn execute(&self, database: &str, sql: &str) {
        run(&self.url(database), sql).expect("a statement");
    }
}

/// A database of one test. Dropped with it, as far as that is possible.
#[derive(Debug)]
pub struct Database<'s> {
    server: &'s Server,
    name: String,
}

impl Database<'_> {
    /// Its address.
    pub fn url(&self) -> String {
        self.server.url(&self.name)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs statements in it.
    ///
    /// # Panics
    /// If one fails.
    pub fn execute(&self, sql: &str) {
        self.server.execute(&self.name, sql);
    }

    /// Reads the first column of a query's rows, as text.
    ///
    /// # Panics
    /// If it fails.
    pub fn query(&self, sql: &str) -> Vec<String> {
        run(&self.url(), sql).expect("a query")
    }
}

impl Drop for Database<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() || self.server.own.as_ref().is_some_and(|own| own.pid().is_none()) {
            return;
        }
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let _ = run(&self.server.url(&self.server.first), &sql);
    }
}

/// Runs statements, and reads the first column of what they return. A test may be inside a runtime, which must not be
/// blocked: so it goes to a thread of its own.
fn run(url: &str, sql: &str) -> Result<Vec<String>, tokio_postgres::Error> {
    let work = async {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        let driven = tokio::spawn(connection);
        let messages = client.simple_query(sql).await;
        drop(client);
        let _ = driven.await;
        let text = |message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
            _ => None,
        };
        Ok(messages?.into_iter().filter_map(text).collect())
    };
    let alone = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(work)
    };
    std::thread::scope(|scope| scope.spawn(alone).join().expect("a thread"))
}
