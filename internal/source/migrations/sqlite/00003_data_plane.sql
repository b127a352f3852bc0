-- +goose Up
-- What the data plane needs. Old entries of the log are found by their time,
-- so that they can be deleted in small portions.
CREATE INDEX request_logs_at ON request_logs (at);

-- A column of its own: a release that does not know of it names the columns it
-- writes, and leaves the strategy as it is.
ALTER TABLE cache_config ADD COLUMN strategy TEXT NOT NULL DEFAULT 'priority';

-- +goose StatementBegin
CREATE TRIGGER cache_config_strategy_touch AFTER UPDATE ON cache_config
WHEN NEW.strategy <> OLD.strategy AND NEW.version = OLD.version BEGIN
  UPDATE cache_config
     SET version = OLD.version + 1,
         updated_by = CASE WHEN NEW.updated_by = OLD.updated_by THEN 'sql' ELSE NEW.updated_by END,
         updated_at = MAX(OLD.updated_at + 1, CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER))
   WHERE id = NEW.id;
END;
-- +goose StatementEnd
