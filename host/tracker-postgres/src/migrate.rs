//! The schema's versions.
//!
//! Owns the migrations, and the lock of the process that runs them. Never touches a schema that is not ours.

use std::path::PathBuf;

use gristmill_model::Timestamp;
use tokio_postgres::Client;

use super::Access;
use super::connect::UNTIMED;
use super::fail::Fail;
use gristmill_tracker::Error;

/// The migrations: only forward, numbered from 1, each in one transaction. A released one is never edited.
const MIGRATIONS: [(&str, &str); 4] = [
    ("first", include_str!("../migrations/0001_first.sql")),
    ("apart", include_str!("../migrations/0002_apart.sql")),
    ("history", include_str!("../migrations/0003_history.sql")),
    ("components", include_str!("../migrations/0004_components.sql")),
];

/// "gristmil" as a number: the lock of the process that migrates.
const LOCK: i64 = 0x6772_6973_746d_696c;

/// The oldest server that has everything we use: a `pg_terminate_backend` that waits.
const SERVER_MIN: i32 = 140_000;

/// The encoding that can store every text of a job.
const ENCODING: &str = "UTF8";

/// Makes sure that the schema is the one that this program knows. An operator's process changes nothing: it reports an
/// older schema, since a host may be running on it.
pub(super) async fn migrate(client: &Client, access: Access, place: &str, now: Timestamp) -> Result<(), Fail> {
    client.batch_execute(UNTIMED).await?;
    let settings = "SELECT current_setting('server_version_num')::int, current_setting('transaction_read_only'),
        current_setting('server_encoding')";
    let row = client.query_one(settings, &[]).await?;
    let version: i32 = row.get(0);
    if version < SERVER_MIN {
        return Err(Error::OldServer { place: place.to_owned(), major: version / 10_000 }.into());
    }
    let found: String = row.get(2);
    if found != ENCODING {
        return Err(Error::Encoding { place: place.to_owned(), found }.into());
    }
    let known = MIGRATIONS.len() as i64;
    if access == Access::Operator {
        return match schema(client, place).await? {
            None => Err(Error::Missing(PathBuf::from(place)).into()),
            Some(found) if found < known => Err(Error::Older { found, known }.into()),
            Some(_) => Ok(()),
        };
    }
    if row.get::<_, String>(1) == "on" {
        return Err(Error::ReadOnlyDatabase(format!("{place} is a replica, or allows only reading")).into());
    }
    client.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await?;
    let migrated = migrate_locked(client, place, now).await;
    client.execute("SELECT pg_advisory_unlock($1)", &[&LOCK]).await?;
    migrated?;
    let may_write: bool =
        client.query_one("SELECT has_table_privilege('gristmill.items', 'INSERT')", &[]).await?.get(0);
    if may_write { Ok(()) } else { Err(Error::Denied(format!("{place} may only be read")).into()) }
}

async fn migrate_locked(client: &Client, place: &str, now: Timestamp) -> Result<(), Fail> {
    let found = schema(client, place).await?.unwrap_or(0);
    for (number, (name, sql)) in (1i64..).zip(MIGRATIONS).skip_while(|(number, _)| *number <= found) {
        let migration = async {
            client
                .batch_execute(
                    "BEGIN;
                     CREATE SCHEMA IF NOT EXISTS gristmill;
                     SET LOCAL search_path = gristmill;
                     CREATE TABLE IF NOT EXISTS migrations (
                        number BIGINT PRIMARY KEY, name TEXT NOT NULL, app_version TEXT NOT NULL,
                        applied_at BIGINT NOT NULL
                     );",
                )
                .await?;
            client.batch_execute(sql).await?;
            let recorded = "INSERT INTO migrations (number, name, app_version, applied_at) VALUES ($1, $2, $3, $4)";
            client.execute(recorded, &[&number, &name, &env!("CARGO_PKG_VERSION"), &now.0]).await?;
            client.batch_execute("COMMIT").await
        };
        if let Err(error) = migration.await {
            let _ = client.batch_execute("ROLLBACK").await;
            return Err(error.into());
        }
    }
    Ok(())
}

/// The schema's number; none if there is no schema. A schema of that name with other tables than ours belongs to
/// somebody else.
async fn schema(client: &Client, place: &str) -> Result<Option<i64>, Fail> {
    let row = client
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace('gristmill')),
                    to_regclass('gristmill.migrations') IS NOT NULL",
            &[],
        )
        .await?;
    match (row.get(0), row.get(1)) {
        (false, _) => return Ok(None),
        (true, false) => return Err(Error::Foreign(PathBuf::from(format!("the schema `gristmill` of {place}"))).into()),
        (true, true) => {}
    }
    let found: i64 = client.query_one("SELECT coalesce(max(number), 0) FROM gristmill.migrations", &[]).await?.get(0);
    let known = MIGRATIONS.len() as i64;
    if found > known { Err(Error::Newer { found, known }.into()) } else { Ok(Some(found)) }
}
