-- invalidate.lua says that nothing is current of some kinds. Their snapshots
-- stay as the last good copy.
--
-- KEYS[1]  head        KEYS[2]  stats      KEYS[3]  replicas
-- KEYS[4…] the meta of each kind
-- ARGV[1]  channel     ARGV[2]  by         ARGV[3]  reason
-- ARGV[4]  how much to add to invalidationCount
-- ARGV[5…] the kinds, in the order of their metas
--
-- Returns Redis's time in Unix ms, how many replicas have reported in this very
-- millisecond, or later by a clock that was set back since, the incarnation, and the
-- new tags in the order of the kinds; or an empty list when there is no head: then
-- nothing is current anyway.
local function is(key, want) return redis.call('TYPE', key)['ok'] == want end

-- Nothing is written before all is read: Redis does not undo a script.
local versions = {}
local known = is(KEYS[1], 'hash') and redis.call('HGET', KEYS[1], 'incarnation')
if known then
  for i = 5, #ARGV do
    local head, meta = redis.call('HGET', KEYS[1], ARGV[i]), KEYS[i - 1]
    local version = string.match(head or '', '^%d+')
    if not version and is(meta, 'hash') then version = redis.call('HGET', meta, 'version') end
    versions[i] = tonumber(version or '0') or 0
  end
end
local time = redis.call('TIME')
local now = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
local told = is(KEYS[3], 'zset') and redis.call('ZRANGEBYSCORE', KEYS[3], now, '+inf') or {}
if not is(KEYS[2], 'none') and not is(KEYS[2], 'hash') then redis.call('DEL', KEYS[2]) end
if tonumber(ARGV[4]) > 0 then redis.pcall('HINCRBY', KEYS[2], 'invalidationCount', ARGV[4]) end
if not known then return {} end
local tags = {now, tostring(#told), known}
for i = 5, #ARGV do
  local tag = string.format('%.0f', versions[i] + 1) .. '-invalid'
  redis.call('HSET', KEYS[1], ARGV[i], tag)
  redis.pcall('PUBLISH', ARGV[1], cjson.encode({event = 'invalidated', kind = ARGV[i], tag = tag, by = ARGV[2], reason = ARGV[3]}))
  tags[#tags + 1] = tag
end
return tags
