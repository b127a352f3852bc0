-- +goose Up
-- Whoever writes, the revision rises in the writer's own transaction.

-- +goose StatementBegin
CREATE TRIGGER channels_insert_raises AFTER INSERT ON channels BEGIN
  UPDATE catalog_revision SET revision = revision + 1 WHERE kind IN ('channels', 'models');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER channels_update_raises AFTER UPDATE ON channels BEGIN
  UPDATE catalog_revision SET revision = revision + 1 WHERE kind IN ('channels', 'models');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER channels_delete_raises AFTER DELETE ON channels BEGIN
  UPDATE catalog_revision SET revision = revision + 1 WHERE kind IN ('channels', 'models');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER model_prices_insert_raises AFTER INSERT ON model_prices BEGIN
  UPDATE catalog_revision SET revision = revision + 1 WHERE kind = 'models';
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER model_prices_update_raises AFTER UPDATE ON model_prices BEGIN
  UPDATE catalog_revision SET revision = revision + 1 WHERE kind = 'models';
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER model_prices_delete_raises AFTER DELETE ON model_prices BEGIN
  UPDATE catalog_revision SET revision = revision + 1 WHERE kind = 'models';
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER routing_rules_insert_raises AFTER INSERT ON routing_rules BEGIN
  UPDATE catalog_revision SET revision = revision + 1 WHERE kind = 'routingRules';
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER routing_rules_update_raises AFTER UPDATE ON routing_rules BEGIN
  UPDATE catalog_revision SET revision = revision + 1 WHERE kind = 'routingRules';
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER routing_rules_delete_raises AFTER DELETE ON routing_rules BEGIN
  UPDATE catalog_revision SET revision = revision + 1 WHERE kind = 'routingRules';
END;
-- +goose StatementEnd

-- An UPDATE that leaves updated_at alone was made by hand.

-- +goose StatementBegin
CREATE TRIGGER channels_touch AFTER UPDATE ON channels WHEN NEW.updated_at = OLD.updated_at BEGIN
  UPDATE channels
     SET updated_at = MAX(OLD.updated_at + 1, CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER))
   WHERE id = NEW.id;
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER routing_rules_touch AFTER UPDATE ON routing_rules WHEN NEW.updated_at = OLD.updated_at BEGIN
  UPDATE routing_rules
     SET updated_at = MAX(OLD.updated_at + 1, CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER))
   WHERE id = NEW.id;
END;
-- +goose StatementEnd

-- So was an UPDATE of the config that leaves its version alone.

-- +goose StatementBegin
CREATE TRIGGER cache_config_touch AFTER UPDATE ON cache_config
WHEN NEW.json <> OLD.json AND NEW.version = OLD.version BEGIN
  UPDATE cache_config
     SET version = OLD.version + 1,
         updated_by = CASE WHEN NEW.updated_by = OLD.updated_by THEN 'sql' ELSE NEW.updated_by END,
         updated_at = MAX(OLD.updated_at + 1, CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER))
   WHERE id = NEW.id;
END;
-- +goose StatementEnd
