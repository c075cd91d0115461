-- The control plane's first schema. Times are microseconds since 1970, ids are 16 bytes of a UUID.

-- Every configuration object of every kind. Organizations are resources too; they belong to the server, whose
-- organization id is the nil UUID.
CREATE TABLE resources (
    id           BLOB PRIMARY KEY NOT NULL,
    organization BLOB NOT NULL,
    kind         TEXT NOT NULL,
    version      INTEGER NOT NULL CHECK (version >= 1),
    schema       INTEGER NOT NULL CHECK (schema >= 1),
    created_at   INTEGER NOT NULL,
    created_by   TEXT NOT NULL,
    modified_at  INTEGER NOT NULL,
    modified_by  TEXT NOT NULL,
    document     TEXT NOT NULL
) STRICT;
CREATE INDEX resources_by_kind ON resources (kind, organization, id);

-- Values that only one resource of a kind may have within its organization.
CREATE TABLE resource_keys (
    organization BLOB NOT NULL,
    kind         TEXT NOT NULL,
    field        TEXT NOT NULL,
    value        TEXT NOT NULL,
    resource     BLOB NOT NULL REFERENCES resources (id) ON DELETE CASCADE,
    PRIMARY KEY (organization, kind, field, value)
) STRICT, WITHOUT ROWID;
CREATE INDEX resource_keys_by_resource ON resource_keys (resource);

-- Values to list by.
CREATE TABLE resource_indexes (
    organization BLOB NOT NULL,
    kind         TEXT NOT NULL,
    field        TEXT NOT NULL,
    value        TEXT NOT NULL,
    resource     BLOB NOT NULL REFERENCES resources (id) ON DELETE CASCADE,
    PRIMARY KEY (organization, kind, field, value, resource)
) STRICT, WITHOUT ROWID;
CREATE INDEX resource_indexes_by_resource ON resource_indexes (resource);

-- Numbers handed out one after the other, for surfaces whose ids are integers.
CREATE TABLE sequences (
    organization BLOB NOT NULL,
    name         TEXT NOT NULL,
    last         INTEGER NOT NULL CHECK (last >= 1),
    PRIMARY KEY (organization, name)
) STRICT, WITHOUT ROWID;

-- What happened. A change of a resource carries its audit part: versions and the members that changed. Each
-- organization numbers its own events, so that nobody can tell from a number how busy the others are.
CREATE TABLE events (
    organization   BLOB NOT NULL,
    sequence       INTEGER NOT NULL CHECK (sequence >= 1),
    is_change      INTEGER NOT NULL CHECK (is_change IN (0, 1)),
    at             INTEGER NOT NULL,
    type           TEXT NOT NULL,
    actor          TEXT NOT NULL,
    resource_kind  TEXT,
    resource_id    TEXT,
    version_before INTEGER,
    version_after  INTEGER,
    changed        TEXT,
    data           TEXT NOT NULL,
    -- The minute (since 1970) that a counted event stands for; others have none.
    minute         INTEGER,
    PRIMARY KEY (organization, sequence)
) STRICT;
CREATE INDEX events_by_type ON events (organization, type, sequence);
CREATE INDEX events_by_class ON events (organization, is_change, sequence);
CREATE UNIQUE INDEX events_by_minute ON events (organization, type, actor, minute) WHERE minute IS NOT NULL;

-- Per organization: the last sequence, which is never handed out again, and the events kept of both classes, so that
-- pruning needs no counting.
CREATE TABLE event_counts (
    organization BLOB PRIMARY KEY NOT NULL,
    last         INTEGER NOT NULL,
    changes      INTEGER NOT NULL,
    others       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Secrets of the server itself, such as the key that signs tokens.
CREATE TABLE server_keys (
    name  TEXT PRIMARY KEY NOT NULL,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Quotas that outlive a restart. `reserved` is never below what was granted.
CREATE TABLE quotas (
    policy       TEXT NOT NULL,
    key          TEXT NOT NULL,
    window_start INTEGER NOT NULL,
    window_end   INTEGER NOT NULL,
    reserved     INTEGER NOT NULL,
    PRIMARY KEY (policy, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX quotas_by_end ON quotas (window_end);

-- Finished answers to requests that carried an Idempotency-Key.
CREATE TABLE idempotency (
    scope       BLOB NOT NULL,
    key         TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    at          INTEGER NOT NULL,
    status      INTEGER NOT NULL,
    headers     TEXT NOT NULL,
    body        BLOB NOT NULL,
    PRIMARY KEY (scope, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_by_time ON idempotency (at);
CREATE INDEX idempotency_by_scope ON idempotency (scope, at);
