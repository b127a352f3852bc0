-- reclaim.lua deletes a lock that its holder has given back already.
--
-- KEYS[1]  the lock, a string      ARGV  the values that were given back
--
-- Returns 1 if the lock had one of these values, 0 if it has another or none.
if redis.call('TYPE', KEYS[1])['ok'] ~= 'string' then return 0 end
local value = redis.call('GET', KEYS[1])
for _, back in ipairs(ARGV) do
  if value == back then
    return redis.call('DEL', KEYS[1])
  end
end
return 0
