-- Each stage that is settled writes its item's row, and SQLite writes a row whole: so the row that the loop writes is a
-- narrow one, and what discovery found is another one of the same number, which the loop only reads. The row of the old
-- table is copied: its pages are free afterwards, and used again.

CREATE TABLE item_data (
    id            INTEGER PRIMARY KEY,      -- items.id
    job_id        INTEGER NOT NULL,         -- that of the item: for the index of keys
    discovered_at INTEGER NOT NULL,
    changed_at    INTEGER NOT NULL,
    key           TEXT    NOT NULL,
    data_hash     BLOB    NOT NULL,
    seen_hash     BLOB,                     -- of the data that it was last seen with; none: that of its data
    data          TEXT    NOT NULL
) STRICT;
INSERT INTO item_data (id, job_id, discovered_at, changed_at, key, data_hash, seen_hash, data)
    SELECT id, job_id, discovered_at, changed_at, key, data_hash, seen_hash, data FROM items ORDER BY id;

ALTER TABLE items RENAME TO items_before;
CREATE TABLE items (
    id           INTEGER PRIMARY KEY,
    job_id       INTEGER NOT NULL,
    done         INTEGER NOT NULL DEFAULT 0,
    skipped      INTEGER NOT NULL DEFAULT 0,
    dead         INTEGER NOT NULL DEFAULT 0,
    live         INTEGER NOT NULL DEFAULT 0,
    stale        INTEGER NOT NULL DEFAULT 0,
    priority     INTEGER NOT NULL DEFAULT 0,
    cancelled_at INTEGER,
    CONSTRAINT settled_once CHECK (done & skipped = 0),
    CONSTRAINT dead_is_not_live CHECK (dead & live = 0),
    CONSTRAINT stale_was_settled CHECK (stale & ~(done | skipped) = 0)
) STRICT;
INSERT INTO items (id, job_id, done, skipped, dead, live, stale, priority, cancelled_at)
    SELECT id, job_id, done, skipped, dead, live, stale, priority, cancelled_at FROM items_before ORDER BY id;
DROP TABLE items_before;

-- How long an attempt takes is its own host's business: a lease lives as long as its host's heartbeat.
ALTER TABLE leases DROP COLUMN deadline;

CREATE UNIQUE INDEX item_data_key ON item_data (job_id, key);
CREATE INDEX items_dead ON items (job_id, id) WHERE dead <> 0;
