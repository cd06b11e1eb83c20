-- The bytes of components are kept, in parts of 1 MiB: neither side holds a message of hundreds of megabytes.

-- Whether its parts are here. An older gristmill kept none: its components are not kept until they are registered
-- again, and neither is a component whose parts were swept.
ALTER TABLE components ADD COLUMN kept BOOLEAN NOT NULL DEFAULT false;

CREATE TABLE component_parts (
    hash  BYTEA  NOT NULL,                  -- components.raw_hash
    part  BIGINT NOT NULL,                  -- from 0
    bytes BYTEA  NOT NULL,
    PRIMARY KEY (hash, part)
);
