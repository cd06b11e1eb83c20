-- The bytes of components are kept, a file each: `components/` in the data folder, named by `raw_hash`.

-- 1: that file is there. An older gristmill kept none: its components have 0 until they are registered again, and
-- so has a component whose file was swept.
ALTER TABLE components ADD COLUMN kept INTEGER NOT NULL DEFAULT 0;
