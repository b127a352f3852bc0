-- +goose Up
-- What the data plane needs. Old entries of the log are found by their time,
-- so that they can be deleted in small portions.
CREATE INDEX request_logs_at ON request_logs (at);

-- A column of its own: a release that does not know of it names the columns it
-- writes, and leaves the strategy as it is.
ALTER TABLE cache_config ADD COLUMN strategy TEXT NOT NULL DEFAULT 'priority';

CREATE TRIGGER cache_config_strategy_touch BEFORE UPDATE ON cache_config
  FOR EACH ROW WHEN (NEW.strategy <> OLD.strategy AND NEW.version = OLD.version) EXECUTE FUNCTION routex_config_touch();
