-- Each stage that is settled writes a new version of its item's row: so the row that the loop writes is a narrow one,
-- and what discovery found is another one of the same number, which the loop only reads. The old table keeps the data,
-- and gives up its other columns, which costs no row.

ALTER TABLE items RENAME TO item_data;
ALTER TABLE item_data RENAME CONSTRAINT items_pkey TO item_data_pkey;
ALTER INDEX items_key RENAME TO item_data_key;
ALTER SEQUENCE items_id_seq RENAME TO item_data_id_seq;
DROP INDEX items_dead;

-- Room in each page, and no index on a mask but the small one of dead stages: so an update stays in its page, and
-- touches no index. Its number is that of its data.
CREATE TABLE items (
    id           BIGINT PRIMARY KEY,
    job_id       BIGINT NOT NULL,
    done         BIGINT NOT NULL DEFAULT 0,
    skipped      BIGINT NOT NULL DEFAULT 0,
    dead         BIGINT NOT NULL DEFAULT 0,
    live         BIGINT NOT NULL DEFAULT 0,
    stale        BIGINT NOT NULL DEFAULT 0,
    priority     BIGINT NOT NULL DEFAULT 0,
    cancelled_at BIGINT,
    CONSTRAINT settled_once CHECK (done & skipped = 0),
    CONSTRAINT dead_is_not_live CHECK (dead & live = 0),
    CONSTRAINT stale_was_settled CHECK (stale & ~(done | skipped) = 0)
) WITH (fillfactor = 80);
INSERT INTO items (id, job_id, done, skipped, dead, live, stale, priority, cancelled_at)
    SELECT id, job_id, done, skipped, dead, live, stale, priority, cancelled_at FROM item_data ORDER BY id;
CREATE INDEX items_dead ON items (job_id, id) WHERE dead <> 0;

ALTER TABLE item_data
    DROP COLUMN done, DROP COLUMN skipped, DROP COLUMN dead, DROP COLUMN live, DROP COLUMN stale,
    DROP COLUMN priority, DROP COLUMN cancelled_at;
ALTER TABLE item_data RESET (fillfactor);

-- How long an attempt takes is its own host's business: a lease lives as long as its host's heartbeat.
ALTER TABLE leases DROP COLUMN deadline;
