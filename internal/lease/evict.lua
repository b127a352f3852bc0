-- evict.lua removes a key from the lock's place, if it is the one that was
-- watched and still no lock of a replica.
--
-- KEYS[1]  the lock
-- ARGV[1]  type    ARGV[2]  value, if it is a string
-- ARGV[3]  ms, the longest that a lock of ours runs
--
-- Returns 1 if it is removed, else 0.
local kind = redis.call('TYPE', KEYS[1])['ok']
if kind ~= ARGV[1] or kind == 'none' then return 0 end
if kind == 'string' then
  local left = redis.call('PTTL', KEYS[1])
  if redis.call('GET', KEYS[1]) ~= ARGV[2] or (left >= 0 and left <= tonumber(ARGV[3])) then return 0 end
end
return redis.call('UNLINK', KEYS[1])
