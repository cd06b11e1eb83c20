//! Opens connections.
//!
//! Owns the URL, TLS, and the settings of every connection. Never shows the password: the server's name in messages is
//! made from the parts that are not secret.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Once};
use std::time::Duration;

use deadpool_postgres::Connect;
use rustls::{ClientConfig, RootCertStore};
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, Config, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::fail::{Fail, with_source};
use gristmill_tracker::Error;

/// How long opening a connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// TCP keepalive: after how much silence the system checks the other side, at which interval, and how many times.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
/// How long sent data may stay unacknowledged.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(30);

/// The first statements on every connection. Plans must not depend on statistics from a time when a table was still
/// empty. Each statement of the loop is a few look-ups by index, and is planned like that once for each connection.
/// Transactions that read whole tables turn the rest on again (`WHOLE_TABLES`). The last statement gives the server's
/// process a name that is never used again.
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

/// Turns off timeouts that a user or a database may have set for statements and sessions, as `pg_dump` does: every
/// operation has its own bound. `transaction_timeout` exists from PostgreSQL 17 on.
pub(super) const UNTIMED: &str = "
    SET statement_timeout = 0;
    SET idle_session_timeout = 0;
    SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'transaction_timeout'";

/// The settings of transactions that read whole tables.
pub(super) const WHOLE_TABLES: &str = "
    SET LOCAL enable_seqscan = on;
    SET LOCAL enable_bitmapscan = on;
    SET LOCAL enable_hashjoin = on;
    SET LOCAL enable_mergejoin = on";

/// The location of a database, and how to connect to it.
#[derive(Clone)]
pub(super) struct Address {
    config: Config,
    connector: Connector,
    /// Its name in messages.
    pub(super) place: String,
}

impl Address {
    /// Parses a URL. `sslmode` is `disable`, `prefer` (TLS if possible), `require` or `verify-full`. The last two are
    /// the same: the certificate is verified against the roots of the system. The default is `prefer` for a server on
    /// this machine, and `require` for any other. No password goes over a network without TLS.
    pub(super) fn parse(url: &str) -> Result<Self, Error> {
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(Error::BadUrl);
        }
        let mut config = read(url)?;
        config.application_name("gristmill").keepalives(true).keepalives_idle(KEEPALIVE_IDLE);
        config.keepalives_interval(KEEPALIVE_INTERVAL).keepalives_retries(KEEPALIVE_RETRIES);
        config.tcp_user_timeout(UNACKNOWLEDGED_MAX);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_MAX);
        }
        let place = place(&config);
        let tls = tls(config.get_ssl_mode())?;
        let is_local = is_local(&config);
        let may_be_plain = is_local || config.get_password().is_none();
        let mut fallback = Fallback::None;
        match config.get_ssl_mode() {
            SslMode::Disable if !may_be_plain => return Err(Error::Plain { place }),
            SslMode::Disable if !is_local => warn_of_plain(&place),
            SslMode::Prefer if may_be_plain => {
                fallback = if is_local { Fallback::Quiet } else { Fallback::Told(place.clone()) };
            }
            _ => {}
        }
        if config.get_ssl_mode() == SslMode::Prefer && !is_local {
            // With `prefer`, the library would silently go on without TLS.
            config.ssl_mode(SslMode::Require);
        }
        Ok(Self { config, connector: Connector { tls, fallback }, place })
    }

    /// Opens a connection and sends it the settings.
    pub(super) async fn open(&self) -> Result<(Client, Connection<Socket, Stream>), Fail> {
        let opened = self.connector.open(&self.config).await;
        opened.map_err(|error| {
            if is_tls(&error) {
                return Fail::Refused(Error::Tls { place: self.place.clone(), why: with_source(&error) });
            }
            self.name(error.into())
        })
    }

    /// Adds the server's name to a failure to connect.
    pub(super) fn name(&self, fail: Fail) -> Fail {
        match fail {
            Fail::Refused(Error::Login(why)) => Fail::Refused(Error::Login(format!("{}: {why}", self.place))),
            Fail::Refused(Error::NoDatabase(why)) => Fail::Refused(Error::NoDatabase(format!("{}: {why}", self.place))),
            other => other,
        }
    }

    pub(super) fn manager(&self) -> deadpool_postgres::Manager {
        let recycle = deadpool_postgres::ManagerConfig { recycling_method: deadpool_postgres::RecyclingMethod::Fast };
        deadpool_postgres::Manager::from_connect(self.config.clone(), self.connector.clone(), recycle)
    }
}

pub(super) type Stream = <MakeRustlsConnect as tokio_postgres::tls::MakeTlsConnect<Socket>>::Stream;

#[derive(Clone)]
struct Connector {
    tls: MakeRustlsConnect,
    fallback: Fallback,
}

/// What happens if TLS is not possible.
#[derive(Clone)]
enum Fallback {
    /// The connection fails.
    None,
    /// It goes on without TLS: nobody listens on this machine.
    Quiet,
    /// It goes on without TLS, and warns. Has the server's name in messages.
    Told(String),
}

type Connected = Result<(Client, JoinHandle<()>), tokio_postgres::Error>;

impl Connect for Connector {
    fn connect(&self, config: &Config) -> Pin<Box<dyn Future<Output = Connected> + Send + '_>> {
        let config = config.clone();
        Box::pin(async move {
            let (client, connection) = self.open(&config).await?;
            // The one who waits for an answer gets its error.
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

impl Connector {
    async fn open(&self, config: &Config) -> Result<(Client, Connection<Socket, Stream>), tokio_postgres::Error> {
        let connected = config.connect(self.tls.clone()).await;
        match connected {
            // A certificate that cannot be verified is no worse than none.
            Err(error) if is_tls(&error) && !matches!(self.fallback, Fallback::None) => {
                if let Fallback::Told(place) = &self.fallback {
                    warn_of_plain(place);
                }
                let mut plain = config.clone();
                plain.ssl_mode(SslMode::Disable);
                plain.connect(self.tls.clone()).await
            }
            other => other,
        }
    }
}

/// Whether TLS failed: the server refused it, or its certificate is not trusted.
fn is_tls(error: &tokio_postgres::Error) -> bool {
    error.to_string().contains("TLS handshake")
}

fn warn_of_plain(place: &str) {
    static TOLD: Once = Once::new();
    TOLD.call_once(|| tracing::warn!("the connection to {place} is not encrypted: others on the network can read it"));
}

/// Parses a URL, and chooses the TLS mode if the URL has none.
pub(super) fn read(url: &str) -> Result<Config, Error> {
    // The library has no mode of this name, but `require` verifies in the same way here.
    let url = url.replace("sslmode=verify-full", "sslmode=require");
    // The library's error may quote the URL, so it is dropped.
    let mut config: Config = url.parse().map_err(|_| Error::BadUrl)?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(Error::BadUrl);
    }
    let options = url.split_once('?').map_or("", |(_, options)| options);
    if !options.split('&').any(|option| option.starts_with("sslmode=")) {
        config.ssl_mode(if is_local(&config) { SslMode::Prefer } else { SslMode::Require });
    }
    Ok(config)
}

/// Whether every server in the URL is on this machine. If the URL has addresses, those count.
fn is_local(config: &Config) -> bool {
    let is_loopback = |address: &str| address.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    match config.get_hostaddrs() {
        [] => config.get_hosts().iter().all(|host| match host {
            Host::Unix(_) => true,
            Host::Tcp(name) => name == "localhost" || is_loopback(name),
        }),
        addresses => addresses.iter().all(IpAddr::is_loopback),
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

/// The first server in the URL.
pub(super) fn host(config: &Config) -> String {
    match config.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        Some(Host::Unix(folder)) => folder.display().to_string(),
        None => config.get_hostaddrs().first().map(ToString::to_string).unwrap_or_default(),
    }
}

/// The port of that server.
pub(super) fn port(config: &Config) -> u16 {
    config.get_ports().first().copied().unwrap_or(5432)
}

/// The server, the user and the database, without the password.
fn place(config: &Config) -> String {
    let (host, port) = (host(config), port(config));
    let user = config.get_user().map(|user| format!("{user}@")).unwrap_or_default();
    format!("postgres://{user}{host}:{port}/{}", config.get_dbname().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str) -> SslMode {
        read(url).expect("a URL").get_ssl_mode()
    }

    #[test]
    fn tls_is_required_unless_the_server_is_on_this_machine_or_the_url_says_so() {
        for local in ["localhost", "127.0.0.1", "127.9.9.9", "[::1]", "%2Frun%2Fpostgresql"] {
            assert_eq!(mode(&format!("postgres://ann@{local}/mill")), SslMode::Prefer, "{local}");
        }
        for remote in ["db.example.org", "10.0.0.1", "localhost.example.org", "localhost,db.example.org"] {
            assert_eq!(mode(&format!("postgres://ann@{remote}/mill")), SslMode::Require, "{remote}");
        }
        assert_eq!(mode("postgres://ann@localhost/mill?hostaddr=10.0.0.1"), SslMode::Require);
        assert_eq!(mode("postgres://ann@10.0.0.1/mill?sslmode=prefer"), SslMode::Prefer);
        assert_eq!(mode("postgres://ann@10.0.0.1/mill?application_name=x&sslmode=disable"), SslMode::Disable);
    }

    #[test]
    fn a_password_never_goes_over_a_network_without_tls() {
        let parse = |url: &str| Address::parse(url);
        let clear = parse("postgres://ann:secret@db.example.org/mill?sslmode=disable");
        assert!(
            matches!(clear.err(), Some(Error::Plain { place }) if place == "postgres://ann@db.example.org:5432/mill")
        );
        let prefer = parse("postgres://ann:secret@db.example.org/mill?sslmode=prefer").expect("an address");
        assert_eq!(prefer.config.get_ssl_mode(), SslMode::Require);
        assert!(matches!(prefer.connector.fallback, Fallback::None));
        let without = parse("postgres://ann@db.example.org/mill?sslmode=prefer").expect("an address");
        assert!(matches!(without.connector.fallback, Fallback::Told(_)));
        let local = parse("postgres://ann:secret@localhost/mill").expect("an address");
        assert!(matches!(local.connector.fallback, Fallback::Quiet));
    }
}
