//! Getting a connection.
//!
//! Owns the URL, TLS, and what every connection is told before it is used. Never shows the password: what names the
//! server in messages is put together from the parts that are not secret.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Connect;
use rustls::{ClientConfig, RootCertStore};
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, Config, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::fail::Fail;
use crate::Error;

/// How long a connection may take to come about.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// After how long a silence the system asks whether the other side is still there, how often, and how many times.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
/// How long what was sent may stay unacknowledged.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(30);

/// What every connection is told first. Plans must not depend on what was counted when a table was still empty: each
/// statement of the loop is a few look-ups by index, and is planned as that, once a connection. What reads whole
/// tables turns the rest on again (`WHOLE_TABLES`). The last statement gives the server's process a name that never
/// comes back.
pub(super) const SETUP: &str = "
    SET search_path = gristmill;
    SET client_min_messages = warning;
    SET jit = off;
    SET plan_cache_mode = force_generic_plan;
    SET enable_seqscan = off;
    SET enable_bitmapscan = off;
    SET enable_hashjoin = off;
    SET enable_mergejoin = off;
    SET idle_in_transaction_session_timeout = '10s';
    SELECT set_config('gristmill.started', (extract(epoch FROM backend_start) * 1000000)::bigint::text, false)
    FROM pg_stat_activity WHERE pid = pg_backend_pid()";

/// What a user or a database may set to end statements and sessions: every operation has a bound of its own. As
/// `pg_dump` does; `transaction_timeout` is there from PostgreSQL 17 on.
pub(super) const UNTIMED: &str = "
    SET statement_timeout = 0;
    SET idle_session_timeout = 0;
    SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'transaction_timeout'";

/// For transactions that read whole tables.
pub(super) const WHOLE_TABLES: &str = "
    SET LOCAL enable_seqscan = on;
    SET LOCAL enable_bitmapscan = on;
    SET LOCAL enable_hashjoin = on;
    SET LOCAL enable_mergejoin = on";

/// Where a database is, and how it is reached.
#[derive(Clone)]
pub(super) struct Address {
    config: Config,
    tls: MakeRustlsConnect,
    /// What messages call it.
    pub(super) place: String,
}

impl Address {
    /// Reads a URL. `sslmode` is `disable`, `prefer` (TLS if it can be had), `require` or `verify-full`; the last two
    /// are the same: the certificate is verified against the roots of the system.
    pub(super) fn parse(url: &str) -> Result<Self, Error> {
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(Error::BadUrl);
        }
        // The library knows no name for the one way in which it verifies.
        let url = url.replace("sslmode=verify-full", "sslmode=require");
        // What it says about a URL that it cannot read may quote from it.
        let mut config: Config = url.parse().map_err(|_| Error::BadUrl)?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(Error::BadUrl);
        }
        config.application_name("gristmill").keepalives(true).keepalives_idle(KEEPALIVE_IDLE);
        config.keepalives_interval(KEEPALIVE_INTERVAL).keepalives_retries(KEEPALIVE_RETRIES);
        config.tcp_user_timeout(UNACKNOWLEDGED_MAX);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_MAX);
        }
        let tls = tls(config.get_ssl_mode())?;
        let place = place(&config);
        Ok(Self { config, tls, place })
    }

    /// Opens a connection and tells it what every connection is told.
    pub(super) async fn open(&self) -> Result<(Client, Connection<Socket, Stream>), Fail> {
        let opened = connect(&self.config, &self.tls).await;
        opened.map_err(|error| self.name(error.into()))
    }

    /// Names the server in a failure to reach it.
    pub(super) fn name(&self, fail: Fail) -> Fail {
        match fail {
            Fail::Refused(Error::Login(why)) => Fail::Refused(Error::Login(format!("{}: {why}", self.place))),
            Fail::Refused(Error::NoDatabase(why)) => Fail::Refused(Error::NoDatabase(format!("{}: {why}", self.place))),
            other => other,
        }
    }

    pub(super) fn manager(&self) -> deadpool_postgres::Manager {
        let recycle = deadpool_postgres::ManagerConfig { recycling_method: deadpool_postgres::RecyclingMethod::Fast };
        deadpool_postgres::Manager::from_connect(self.config.clone(), Connector { tls: self.tls.clone() }, recycle)
    }
}

pub(super) type Stream = <MakeRustlsConnect as tokio_postgres::tls::MakeTlsConnect<Socket>>::Stream;

struct Connector {
    tls: MakeRustlsConnect,
}

type Connected = Result<(Client, JoinHandle<()>), tokio_postgres::Error>;

impl Connect for Connector {
    fn connect(&self, config: &Config) -> Pin<Box<dyn Future<Output = Connected> + Send + '_>> {
        let config = config.clone();
        Box::pin(async move {
            let (client, connection) = connect(&config, &self.tls).await?;
            // Its error is seen by whoever waits for an answer.
            let driven = tokio::spawn(async move {
                let _ = connection.await;
            });
            match client.batch_execute(&format!("{UNTIMED}; {SETUP}")).await {
                Ok(()) => Ok((client, driven)),
                Err(error) => {
                    driven.abort();
                    Err(error)
                }
            }
        })
    }
}

async fn connect(
    config: &Config,
    tls: &MakeRustlsConnect,
) -> Result<(Client, Connection<Socket, Stream>), tokio_postgres::Error> {
    let connected = config.connect(tls.clone()).await;
    match connected {
        // `prefer` is content without: a certificate that does not verify is no worse than none.
        Err(error) if config.get_ssl_mode() == SslMode::Prefer && error.to_string().contains("TLS handshake") => {
            let mut plain = config.clone();
            plain.ssl_mode(SslMode::Disable);
            plain.connect(tls.clone()).await
        }
        other => other,
    }
}

fn tls(mode: SslMode) -> Result<MakeRustlsConnect, Error> {
    let mut roots = RootCertStore::empty();
    if mode != SslMode::Disable {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Sql(format!("TLS: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

/// The server, the user and the database, and no password.
fn place(config: &Config) -> String {
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        Some(Host::Unix(folder)) => folder.display().to_string(),
        None => config.get_hostaddrs().first().map(ToString::to_string).unwrap_or_default(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let user = config.get_user().map(|user| format!("{user}@")).unwrap_or_default();
    format!("postgres://{user}{host}:{port}/{}", config.get_dbname().unwrap_or_default())
}
