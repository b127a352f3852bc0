-- +goose Up
-- Whoever writes, the revision rises in the writer's own transaction, and the
-- fleet hears of it when that transaction commits. The arguments of a trigger
-- are the kinds it raises, in the one order in which everybody locks them.
-- The function runs as its owner: a person who may edit channels need not be
-- allowed to edit the counters.

-- +goose StatementBegin
CREATE FUNCTION routex_raise() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  k text;
BEGIN
  FOREACH k IN ARRAY coalesce(TG_ARGV, '{}') LOOP
    EXECUTE format('UPDATE %I.catalog_revision SET revision = revision + 1 WHERE kind = $1', TG_TABLE_SCHEMA) USING k;
  END LOOP;
  PERFORM pg_notify('routex_changes', TG_TABLE_NAME);
  RETURN NULL;
END;
$$;
-- +goose StatementEnd

CREATE TRIGGER channels_raise AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON channels
  FOR EACH STATEMENT EXECUTE FUNCTION routex_raise('channels', 'models');
CREATE TRIGGER model_prices_raise AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON model_prices
  FOR EACH STATEMENT EXECUTE FUNCTION routex_raise('models');
CREATE TRIGGER routing_rules_raise AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON routing_rules
  FOR EACH STATEMENT EXECUTE FUNCTION routex_raise('routingRules');

-- An UPDATE that leaves updated_at alone was made by hand.

-- +goose StatementBegin
CREATE FUNCTION routex_touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.updated_at := greatest(OLD.updated_at + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint);
  RETURN NEW;
END;
$$;
-- +goose StatementEnd

CREATE TRIGGER channels_touch BEFORE UPDATE ON channels
  FOR EACH ROW WHEN (NEW.updated_at = OLD.updated_at) EXECUTE FUNCTION routex_touch();
CREATE TRIGGER routing_rules_touch BEFORE UPDATE ON routing_rules
  FOR EACH ROW WHEN (NEW.updated_at = OLD.updated_at) EXECUTE FUNCTION routex_touch();

-- So was an UPDATE of the config that leaves its version alone.

-- +goose StatementBegin
CREATE FUNCTION routex_config_touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.version := OLD.version + 1;
  NEW.updated_at := greatest(OLD.updated_at + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint);
  IF NEW.updated_by = OLD.updated_by THEN
    NEW.updated_by := 'sql';
  END IF;
  RETURN NEW;
END;
$$;
-- +goose StatementEnd

CREATE TRIGGER cache_config_touch BEFORE UPDATE ON cache_config
  FOR EACH ROW WHEN (NEW.json <> OLD.json AND NEW.version = OLD.version) EXECUTE FUNCTION routex_config_touch();

-- With no argument the trigger only tells the fleet.
CREATE TRIGGER cache_config_tell AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON cache_config
  FOR EACH STATEMENT EXECUTE FUNCTION routex_raise();

-- A new source_id is news as well.
CREATE TRIGGER catalog_revision_tell AFTER UPDATE OF source_id ON catalog_revision
  FOR EACH STATEMENT EXECUTE FUNCTION routex_raise();
