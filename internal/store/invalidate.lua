-- invalidate.lua says that nothing is current of some kinds. Their snapshots
-- stay as the last good copy.
--
-- KEYS[1]  head        KEYS[2]  stats      then the meta of each kind
-- ARGV[1]  channel     ARGV[2]  by         ARGV[3]  reason
-- ARGV[4]  how much to add to invalidationCount
-- ARGV[5…] the kinds, in the order of their metas
--
-- Returns the new tags in the order of the kinds, or an empty list when there
-- is no head: then nothing is current anyway.
local kind = redis.call('TYPE', KEYS[2])['ok']
if kind ~= 'none' and kind ~= 'hash' then redis.call('DEL', KEYS[2]) end
if tonumber(ARGV[4]) > 0 then redis.call('HINCRBY', KEYS[2], 'invalidationCount', ARGV[4]) end
if redis.call('HEXISTS', KEYS[1], 'incarnation') == 0 then return {} end
local tags = {}
for i = 5, #ARGV do
  local kind = ARGV[i]
  local head = redis.call('HGET', KEYS[1], kind)
  local version = tonumber(string.match(head or '', '^%d+') or redis.call('HGET', KEYS[i - 2], 'version') or '0')
  local tag = string.format('%.0f', version + 1) .. '-invalid'
  redis.call('HSET', KEYS[1], kind, tag)
  redis.pcall('PUBLISH', ARGV[1], cjson.encode({event = 'invalidated', kind = kind, tag = tag, by = ARGV[2], reason = ARGV[3]}))
  tags[#tags + 1] = tag
end
return tags
