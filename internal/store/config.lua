-- config.lua mirrors the source's cache_config unless Redis has it, or a newer one.
--
-- KEYS[1]  head        KEYS[2]  config
-- ARGV[1]  version     ARGV[2]  json       ARGV[3]  by     ARGV[4]  at (Unix ms)
-- ARGV[5]  channel     ARGV[6]  incarnation to begin when there is no head
-- ARGV[7]  "1": take it even if the stored version is greater (source restored)
--
-- Returns the keys that were no hashes and were replaced.
local replaced = {}
for _, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key)['ok']
  if kind ~= 'none' and kind ~= 'hash' then
    redis.call('UNLINK', key)
    replaced[#replaced + 1] = key
  end
end
local stored = tonumber(redis.call('HGET', KEYS[2], 'version') or '0') or 0
local shown = tonumber(redis.call('HGET', KEYS[1], 'config') or '0') or 0
local version = tonumber(ARGV[1])
if version < stored and ARGV[7] ~= '1' then return replaced end
if version == stored and version == shown and redis.call('HGET', KEYS[2], 'json') == ARGV[2] then return replaced end
redis.call('HSETNX', KEYS[1], 'incarnation', ARGV[6])
redis.call('HSET', KEYS[2], 'version', ARGV[1], 'json', ARGV[2], 'updatedBy', ARGV[3], 'updatedAt', ARGV[4])
redis.call('HSET', KEYS[1], 'config', ARGV[1])
redis.pcall('PUBLISH', ARGV[5], cjson.encode({event = 'config', kind = 'config', tag = ARGV[1], by = ARGV[3], reason = ''}))
return replaced
