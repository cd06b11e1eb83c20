//! A database to measure in.
//!
//! Owns the check that the database has no schema of ours at the start. Never deletes anything that the measurement did
//! not make.

use gristmill_model::{Clock, Timestamp};
use tokio_postgres::Client;

use super::Access;
use super::connect::{Address, SETUP, UNTIMED};
use super::fail::Fail;
use gristmill_tracker::Error;

/// A database without gristmill's schema when it is taken. The schema is deleted when this is dropped.
#[derive(Debug)]
pub struct Scratch {
    url: String,
}

impl Scratch {
    /// Takes a database for measuring.
    ///
    /// # Errors
    /// `NotEmpty` if it has a tracker, even an empty one; otherwise if it cannot be reached.
    pub fn take(url: &str) -> Result<Self, Error> {
        let has_tracker = at(url, async |client, address| {
            let row = client.query_one("SELECT to_regnamespace('gristmill') IS NOT NULL", &[]).await?;
            if row.get(0) { Err(Error::NotEmpty(address.place.clone()).into()) } else { Ok(()) }
        });
        has_tracker.map(|()| Self { url: url.to_owned() })
    }

    /// The database's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Deletes everything that was written since it was taken.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub fn clear(&self) -> Result<(), Error> {
        at(&self.url, async |client, _| Ok(client.batch_execute("DROP SCHEMA IF EXISTS gristmill CASCADE").await?))
    }

    /// Creates the schema, and runs `work` on one connection with the settings of a host's connections.
    pub(super) fn work<T>(
        &self,
        clock: &dyn Clock,
        work: impl AsyncFnOnce(&Client) -> Result<T, Fail>,
    ) -> Result<T, Error> {
        let now: Timestamp = clock.now();
        at(&self.url, async |client, address| {
            super::migrate::migrate(client, Access::Host, &address.place, now).await?;
            client.batch_execute(SETUP).await?;
            work(client).await
        })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A caller that wants the error calls `clear` first.
        let _ = self.clear();
    }
}

/// Connects, and waits on the calling thread until the work is done.
fn at<T>(url: &str, work: impl AsyncFnOnce(&Client, &Address) -> Result<T, Fail>) -> Result<T, Error> {
    let address = Address::parse(url)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| Error::Machine { what: "the event loop cannot be started", source })?;
    let done = runtime.block_on(async {
        let (client, connection) = address.open().await?;
        let driven = tokio::spawn(connection);
        let done = async {
            client.batch_execute(UNTIMED).await?;
            work(&client, &address).await
        };
        let done = done.await;
        drop(client);
        let _ = driven.await;
        done
    });
    done.map_err(|fail| fail.told(&address.place))
}
