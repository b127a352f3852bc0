-- +goose Up
-- Times are Unix milliseconds. The tables are STRICT so that a value of the
-- wrong type is refused when it is typed in, not when it is loaded.

CREATE TABLE channels (
  id         TEXT    NOT NULL PRIMARY KEY,
  name       TEXT    NOT NULL,
  type       TEXT    NOT NULL DEFAULT 'openai',
  base_url   TEXT    NOT NULL DEFAULT '',
  api_key    TEXT    NOT NULL DEFAULT '',        -- sealed; a plain one is sealed at the next load
  models     TEXT    NOT NULL DEFAULT '[]',      -- JSON array of names
  priority   INTEGER NOT NULL DEFAULT 0,         -- lower is tried first
  weight     INTEGER NOT NULL DEFAULT 1,
  status     TEXT    NOT NULL DEFAULT 'enabled',
  created_at INTEGER NOT NULL DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER)),
  updated_at INTEGER NOT NULL DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER))
) STRICT;

CREATE TABLE routing_rules (
  id             TEXT    NOT NULL PRIMARY KEY,
  name           TEXT    NOT NULL,
  type           TEXT    NOT NULL DEFAULT 'default',
  condition      TEXT    NOT NULL DEFAULT '{}',  -- JSON object
  target_channel TEXT    NOT NULL,               -- a channel's id or name
  target_model   TEXT    NOT NULL DEFAULT '',
  priority       INTEGER NOT NULL DEFAULT 0,     -- higher is tried first
  enabled        INTEGER NOT NULL DEFAULT TRUE CHECK (enabled IN (0, 1)),
  created_at     INTEGER NOT NULL DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER)),
  updated_at     INTEGER NOT NULL DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER))
) STRICT;

-- US dollars for a million tokens.
CREATE TABLE model_prices (
  model              TEXT NOT NULL PRIMARY KEY,
  input_per_million  REAL NOT NULL DEFAULT 0,
  output_per_million REAL NOT NULL DEFAULT 0,
  cached_per_million REAL NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE request_logs (
  id            INTEGER PRIMARY KEY AUTOINCREMENT,
  channel_id    TEXT    NOT NULL DEFAULT '',
  model         TEXT    NOT NULL DEFAULT '',
  method        TEXT    NOT NULL DEFAULT '',
  path          TEXT    NOT NULL DEFAULT '',
  status_code   INTEGER NOT NULL DEFAULT 0,
  latency_ms    INTEGER NOT NULL DEFAULT 0,
  input_tokens  INTEGER NOT NULL DEFAULT 0,
  output_tokens INTEGER NOT NULL DEFAULT 0,
  cached_tokens INTEGER NOT NULL DEFAULT 0,
  success       INTEGER NOT NULL DEFAULT TRUE CHECK (success IN (0, 1)),
  error         TEXT    NOT NULL DEFAULT '',
  at            INTEGER NOT NULL DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER))
) STRICT;

CREATE TABLE cache_config (
  id         INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
  json       TEXT    NOT NULL DEFAULT '{}',      -- absent fields have their defaults
  version    INTEGER NOT NULL DEFAULT 1,
  updated_by TEXT    NOT NULL DEFAULT '',
  updated_at INTEGER NOT NULL DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER))
) STRICT;

-- The change counters. Only the triggers write the revisions.
CREATE TABLE catalog_revision (
  kind      TEXT    NOT NULL PRIMARY KEY,
  revision  INTEGER NOT NULL DEFAULT 1,
  source_id TEXT    NOT NULL DEFAULT ''
) STRICT;
INSERT INTO catalog_revision (kind) VALUES ('channels'), ('models'), ('routingRules');

-- Records that were removed or disabled on purpose, with the revision of that.
-- The guards against accidents do not count them. Kept for a week.
CREATE TABLE approvals (
  kind     TEXT    NOT NULL,
  id       TEXT    NOT NULL,
  revision INTEGER NOT NULL,
  reason   TEXT    NOT NULL,
  at       INTEGER NOT NULL DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER)),
  PRIMARY KEY (kind, id)
) STRICT;
