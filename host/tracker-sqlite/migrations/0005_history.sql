-- A page of discovery is stored once, and sightings name it: its cursor may be as large as a page of items.

-- A page is there as long as a sighting names it. Later pages have higher numbers.
CREATE TABLE pages (
    id     INTEGER PRIMARY KEY,
    job_id INTEGER NOT NULL,
    at     INTEGER NOT NULL,
    n      INTEGER NOT NULL,                -- sightings that name it: an index on theirs would be written with each new item
    source TEXT    NOT NULL,                -- who found it
    cursor TEXT                             -- what it was asked for with, at most 1 MiB; none: the first page, or none at all
) STRICT;

-- In the order of their time, and each once: a key that is compared, and never sorted, needs no memory for the cursors.
CREATE TEMP TABLE found (
    at INTEGER, job_id INTEGER, source TEXT, has_cursor INTEGER, cursor TEXT,
    PRIMARY KEY (at, job_id, source, has_cursor, cursor)
) WITHOUT ROWID;
INSERT OR IGNORE INTO found SELECT at, job_id, source, cursor IS NOT NULL, coalesce(cursor, '')
    FROM sightings CROSS JOIN items ON items.id = item_id;
INSERT INTO pages (job_id, at, n, source, cursor)
    SELECT job_id, at, 0, source, iif(has_cursor, cursor, NULL) FROM found
    ORDER BY at, job_id, source, has_cursor, cursor;
DROP TABLE found;
CREATE INDEX pages_found ON pages (at, job_id, source, cursor);

ALTER TABLE sightings RENAME TO sightings_before;
-- With which data an item was seen, each once: the latest so often as the job's file says.
CREATE TABLE sightings (
    item_id   INTEGER NOT NULL,
    data_hash BLOB    NOT NULL,
    page_id   INTEGER NOT NULL,             -- where it was seen so last
    PRIMARY KEY (item_id, data_hash)
) STRICT, WITHOUT ROWID;
INSERT INTO sightings (item_id, data_hash, page_id)
    SELECT item_id, data_hash, (SELECT pages.id FROM pages WHERE pages.at = sightings_before.at
        AND pages.job_id = items.job_id AND pages.source = sightings_before.source
        AND pages.cursor IS sightings_before.cursor)
    FROM sightings_before CROSS JOIN items ON items.id = item_id ORDER BY item_id, data_hash;
DROP TABLE sightings_before;
DROP INDEX pages_found;
UPDATE pages SET n = named FROM (SELECT page_id, count(*) AS named FROM sightings GROUP BY page_id) WHERE page_id = id;

-- 1: leased, and what it was given has changed since. It runs once more.
ALTER TABLE queue ADD COLUMN superseded INTEGER;

-- For lists. None of them is written when a stage is done.
CREATE INDEX items_cancelled ON items (job_id, id) WHERE cancelled_at IS NOT NULL;
CREATE INDEX attempts_not_done ON attempts (stage_id, outcome) WHERE outcome <> 1;
CREATE INDEX events_of_job ON events (job_id, kind);
CREATE INDEX events_of_kind ON events (kind);
