-- +goose Up
-- Names are unique, and every write asks whose one is.
-- By hash, for a row that somebody has written may have a name of any length.
CREATE INDEX channels_name ON channels USING hash (name);
