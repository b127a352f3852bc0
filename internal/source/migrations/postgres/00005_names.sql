-- +goose Up
-- Names are unique, and every write asks whose one is.
CREATE INDEX channels_name ON channels (name);
