-- Files that surfaces hand out or take in, beside the database in files/ORGANIZATION/ID; a file without a row is gone.
CREATE TABLE files (
    id           BLOB PRIMARY KEY NOT NULL,
    organization BLOB NOT NULL,
    purpose      TEXT NOT NULL,
    name         TEXT NOT NULL,
    media_type   TEXT NOT NULL,
    bytes        INTEGER NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX files_by_purpose ON files (organization, purpose, created_at);
CREATE INDEX files_by_expiry ON files (expires_at);

-- How far something that goes on has come, such as a schedule; written together with what it caused.
CREATE TABLE marks (
    organization BLOB NOT NULL,
    name         TEXT NOT NULL,
    value        INTEGER NOT NULL,
    PRIMARY KEY (organization, name)
) STRICT, WITHOUT ROWID;
