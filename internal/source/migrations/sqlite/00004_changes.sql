-- +goose Up
-- What changed, so that one changed row costs a load that row and not all of
-- them. One entry for each execution of the trigger that raises a counter: by
-- their number a load sees whether it has all of them. Only the triggers write
-- here, and they keep no more than the last ten thousand.

CREATE TABLE catalog_changes (
  seq    INTEGER NOT NULL PRIMARY KEY,           -- in the order of the commits
  kind   TEXT    NOT NULL,                       -- channels, routingRules, or models: a price
  id     TEXT,                                   -- of the row; NULL: any row may have changed
  was    TEXT,                                   -- its id before, where that was another
  raised INTEGER NOT NULL DEFAULT 1,             -- how often the counter of the kind rose with it
  mark   INTEGER NOT NULL DEFAULT (random())     -- tells this entry from one of another history
) STRICT;
INSERT INTO catalog_changes (kind, raised) VALUES ('channels', 0);

-- +goose StatementBegin
CREATE TRIGGER catalog_changes_trim AFTER INSERT ON catalog_changes BEGIN
  DELETE FROM catalog_changes WHERE seq <= NEW.seq - 10000;
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER channels_insert_records AFTER INSERT ON channels BEGIN
  INSERT INTO catalog_changes (kind, id) VALUES ('channels', NEW.id);
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER channels_update_records AFTER UPDATE ON channels BEGIN
  INSERT INTO catalog_changes (kind, id, was) VALUES ('channels', NEW.id, NULLIF(OLD.id, NEW.id));
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER channels_delete_records AFTER DELETE ON channels BEGIN
  INSERT INTO catalog_changes (kind, id) VALUES ('channels', OLD.id);
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER model_prices_insert_records AFTER INSERT ON model_prices BEGIN
  INSERT INTO catalog_changes (kind, id) VALUES ('models', NEW.model);
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER model_prices_update_records AFTER UPDATE ON model_prices BEGIN
  INSERT INTO catalog_changes (kind, id, was) VALUES ('models', NEW.model, NULLIF(OLD.model, NEW.model));
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER model_prices_delete_records AFTER DELETE ON model_prices BEGIN
  INSERT INTO catalog_changes (kind, id) VALUES ('models', OLD.model);
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER routing_rules_insert_records AFTER INSERT ON routing_rules BEGIN
  INSERT INTO catalog_changes (kind, id) VALUES ('routingRules', NEW.id);
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER routing_rules_update_records AFTER UPDATE ON routing_rules BEGIN
  INSERT INTO catalog_changes (kind, id, was) VALUES ('routingRules', NEW.id, NULLIF(OLD.id, NEW.id));
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER routing_rules_delete_records AFTER DELETE ON routing_rules BEGIN
  INSERT INTO catalog_changes (kind, id) VALUES ('routingRules', OLD.id);
END;
-- +goose StatementEnd
