-- Redrives, sightings, the age of deferrals, what an attempt belongs to.

-- The hash of the data that an item was last seen with; none: that of its data.
ALTER TABLE items ADD COLUMN seen_hash BLOB;

-- With which data an item was seen, each once: the latest so often as the job's file says.
CREATE TABLE sightings (
    item_id   INTEGER NOT NULL,
    data_hash BLOB    NOT NULL,
    at        INTEGER NOT NULL,
    source    TEXT    NOT NULL,
    cursor    TEXT,
    PRIMARY KEY (item_id, data_hash)
) STRICT, WITHOUT ROWID;

ALTER TABLE queue ADD COLUMN first_due_at INTEGER;     -- before its first attempt; none: there was none yet
ALTER TABLE queue ADD COLUMN operation_id INTEGER;     -- that wants it run

ALTER TABLE attempts ADD COLUMN spec INTEGER;          -- job_specs.number
ALTER TABLE attempts ADD COLUMN operation_id INTEGER;

-- Unique in a tracker, and short: attempts name it.
ALTER TABLE job_specs ADD COLUMN number INTEGER;
UPDATE job_specs SET number = 1 + (
    SELECT count(*) FROM job_specs AS other
    WHERE (other.job_id, other.loaded_at, other.spec_id) < (job_specs.job_id, job_specs.loaded_at, job_specs.spec_id)
);
CREATE UNIQUE INDEX job_specs_number ON job_specs (number);

ALTER TABLE events ADD COLUMN item_id INTEGER;
ALTER TABLE events ADD COLUMN operation_id INTEGER;

-- What a person asked to be done with many items: done in steps, and resumed after a crash.
CREATE TABLE operations (
    id         INTEGER PRIMARY KEY,
    kind       TEXT    NOT NULL,
    job_id     INTEGER NOT NULL,
    filter     TEXT    NOT NULL,            -- JSON
    state      INTEGER NOT NULL,            -- 1 running, 2 paused, 3 done, 4 cancelled
    planned    INTEGER NOT NULL,
    done       INTEGER NOT NULL,
    most       INTEGER NOT NULL,
    rate       REAL,                        -- a second
    position   INTEGER NOT NULL,            -- the last key that was looked at
    next_at    INTEGER NOT NULL,            -- not before, as the rate says
    actor      TEXT    NOT NULL,
    why        TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    CONSTRAINT state_is_known CHECK (state IN (1, 2, 3, 4))
) STRICT;

-- An output that is too large for a row is a file, named by `output_hash`; its row has the text ''.
CREATE INDEX item_stages_blobs ON item_stages (output_hash) WHERE output = '';
