-- Times are microseconds since the epoch, UTC. A bit is a stage's place in the masks of its job (0 to 62).
-- stage_id = job_id << 6 | bit. A `key` of queue, item_stages and attempts = item_id << 6 | bit: one integer, because
-- a WITHOUT ROWID pair costs a tenth of the writer's speed.

-- Registries: small.
CREATE TABLE jobs (
    id         INTEGER PRIMARY KEY,
    name       TEXT    NOT NULL UNIQUE,
    spec_id    BLOB    NOT NULL,
    created_at INTEGER NOT NULL,
    reconciled INTEGER                      -- the DAG was edited: items up to this one are in line; none: all are
) STRICT;

CREATE TABLE job_specs (
    job_id    INTEGER NOT NULL REFERENCES jobs (id),
    spec_id   BLOB    NOT NULL,
    yaml      TEXT    NOT NULL,
    loaded_at INTEGER NOT NULL,
    PRIMARY KEY (job_id, spec_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE stages (
    id         INTEGER PRIMARY KEY,
    job_id     INTEGER NOT NULL REFERENCES jobs (id),
    name       TEXT    NOT NULL,
    place      INTEGER NOT NULL,            -- in the job file, for display
    needs      INTEGER NOT NULL,            -- mask of the stages it needs
    outputs    INTEGER NOT NULL,            -- of those, the ones whose output it cannot do without
    version_id INTEGER,                     -- the current one
    retired_at INTEGER,                     -- no longer in the job file
    UNIQUE (job_id, name)
) STRICT;

CREATE TABLE components (
    hash     BLOB PRIMARY KEY,              -- canonical: without custom sections
    raw_hash BLOB    NOT NULL,
    size     INTEGER NOT NULL,
    source   TEXT    NOT NULL,
    added_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE versions (
    id             INTEGER PRIMARY KEY,
    stage_id       INTEGER NOT NULL,
    digest         BLOB    NOT NULL,
    component_hash BLOB    NOT NULL,
    declared       TEXT,
    created_at     INTEGER NOT NULL,
    UNIQUE (stage_id, digest)
) STRICT;

CREATE TABLE hosts (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,  -- an epoch: a restarted host is another one
    name         TEXT    NOT NULL,
    pid          INTEGER NOT NULL,
    app_version  TEXT    NOT NULL,
    started_at   INTEGER NOT NULL,
    heartbeat_at INTEGER NOT NULL,
    ended_at     INTEGER
) STRICT;
CREATE INDEX hosts_alive ON hosts (heartbeat_at) WHERE ended_at IS NULL;

-- Facts.
CREATE TABLE items (
    id            INTEGER PRIMARY KEY,
    job_id        INTEGER NOT NULL,
    done          INTEGER NOT NULL DEFAULT 0,
    skipped       INTEGER NOT NULL DEFAULT 0,
    dead          INTEGER NOT NULL DEFAULT 0,
    live          INTEGER NOT NULL DEFAULT 0,
    stale         INTEGER NOT NULL DEFAULT 0,
    priority      INTEGER NOT NULL DEFAULT 0,
    cancelled_at  INTEGER,
    discovered_at INTEGER NOT NULL,
    changed_at    INTEGER NOT NULL,
    key           TEXT    NOT NULL,
    data_hash     BLOB    NOT NULL,
    data          TEXT    NOT NULL,
    CONSTRAINT settled_once CHECK (done & skipped = 0),
    CONSTRAINT dead_is_not_live CHECK (dead & live = 0),
    CONSTRAINT stale_was_settled CHECK (stale & ~(done | skipped) = 0)
) STRICT;
CREATE UNIQUE INDEX items_key ON items (job_id, key);
CREATE INDEX items_dead ON items (job_id, id) WHERE dead <> 0;

-- The latest settled outcome of each stage of each item. A result that was once there stays until a new one is
-- settled: a dead stage keeps the output of the run before.
CREATE TABLE item_stages (
    key          INTEGER PRIMARY KEY,
    state        INTEGER NOT NULL,          -- 4 done, 5 skipped, 6 dead
    reason       INTEGER,                   -- why dead
    attempts     INTEGER NOT NULL,
    lost         INTEGER NOT NULL,
    deferrals    INTEGER NOT NULL,
    settled_at   INTEGER NOT NULL,
    last_attempt INTEGER,                   -- none: skipped with a stage it needs
    version_id   INTEGER,
    input_hash   BLOB,
    output_hash  BLOB,
    output       TEXT,
    error        TEXT,
    CONSTRAINT state_is_settled CHECK (state IN (4, 5, 6)),
    CONSTRAINT dead_has_a_reason CHECK ((state = 6) = (reason IS NOT NULL)),
    CONSTRAINT done_has_an_output CHECK (state <> 4 OR output IS NOT NULL)
) STRICT;

CREATE TABLE cursors (
    job_id     INTEGER PRIMARY KEY,
    cursor     TEXT,                        -- none: the last pass came to its end
    updated_at INTEGER NOT NULL
) STRICT;

-- Queue: a row only while work is live. Each index is partial, so a state's rows are in one of them at most.
CREATE TABLE queue (
    key          INTEGER PRIMARY KEY,
    stage_id     INTEGER NOT NULL,
    state        INTEGER NOT NULL,          -- 1 ready, 2 leased, 3 waiting
    claim_key    INTEGER NOT NULL,          -- due_at - priority x aging: priority with aging, and no sort
    due_at       INTEGER NOT NULL,          -- when it was or will be ready
    attempts     INTEGER NOT NULL DEFAULT 0,
    lost         INTEGER NOT NULL DEFAULT 0,
    deferrals    INTEGER NOT NULL DEFAULT 0,
    fence        INTEGER,
    last_attempt INTEGER,
    CONSTRAINT state_is_live CHECK (state IN (1, 2, 3)),
    CONSTRAINT leased_has_a_fence CHECK ((state = 2) = (fence IS NOT NULL))
) STRICT;
CREATE INDEX queue_ready ON queue (stage_id, claim_key) WHERE state = 1;
CREATE INDEX queue_waiting ON queue (due_at) WHERE state = 3;

-- One row a claimed batch, and not an index on queue: an eighth of the writer's speed. AUTOINCREMENT, because a fence
-- must never come back, also when the table is empty.
CREATE TABLE leases (
    fence      INTEGER PRIMARY KEY AUTOINCREMENT,
    host_id    INTEGER NOT NULL,
    claimed_at INTEGER NOT NULL,
    deadline   INTEGER NOT NULL,
    open       INTEGER NOT NULL,            -- members not yet settled
    members    BLOB    NOT NULL             -- keys, 8 bytes each, little-endian
) STRICT;

-- History: append only. The attempts of a stage of an item are a chain by `prev`, and its head is `last_attempt` of
-- its queue row or item_stages row: an index would cost a tenth of the writer's speed.
CREATE TABLE attempts (
    id               INTEGER PRIMARY KEY,
    key              INTEGER NOT NULL,
    stage_id         INTEGER NOT NULL,
    prev             INTEGER,
    outcome          INTEGER NOT NULL,
    host_id          INTEGER NOT NULL,
    fence            INTEGER NOT NULL,
    queued_at        INTEGER NOT NULL,
    started_at       INTEGER,               -- none: its host vanished, and only that one knew
    ended_at         INTEGER NOT NULL,
    version_id       INTEGER,
    memory_bytes_max INTEGER,
    input_hash       BLOB,
    error            TEXT,
    log              TEXT
) STRICT;

CREATE TABLE costs (
    id         INTEGER PRIMARY KEY,
    attempt_id INTEGER NOT NULL,
    meter      TEXT    NOT NULL,
    amount     REAL    NOT NULL
) STRICT;
CREATE INDEX costs_attempt ON costs (attempt_id);

CREATE TABLE cost_rollups (
    stage_id INTEGER NOT NULL,
    meter    TEXT    NOT NULL,
    day      INTEGER NOT NULL,              -- days since the epoch, UTC
    amount   REAL    NOT NULL,
    n        INTEGER NOT NULL,
    PRIMARY KEY (stage_id, meter, day)
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    id     INTEGER PRIMARY KEY,
    at     INTEGER NOT NULL,
    kind   TEXT    NOT NULL,
    job_id INTEGER,
    data   TEXT    NOT NULL                 -- JSON
) STRICT;

-- Counters, kept in the transaction that changes what they count.
CREATE TABLE stage_counts (
    stage_id INTEGER NOT NULL,
    state    INTEGER NOT NULL,
    n        INTEGER NOT NULL,
    PRIMARY KEY (stage_id, state)
) STRICT, WITHOUT ROWID;

CREATE TABLE item_counts (
    job_id INTEGER NOT NULL,
    status INTEGER NOT NULL,
    n      INTEGER NOT NULL,
    PRIMARY KEY (job_id, status)
) STRICT, WITHOUT ROWID;

CREATE TABLE version_counts (
    version_id INTEGER PRIMARY KEY,
    n          INTEGER NOT NULL
) STRICT;
