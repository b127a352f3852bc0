-- retell.lua is a replica's report of what has changed since its last one.
--
-- KEYS[1]  replicas    KEYS[2]  replica:ID
-- ARGV[1]  id          ARGV[2]  ms until the hash expires
-- ARGV[3]  number of its last report, as the field "report" has it
-- ARGV[4…] fields and values of the hash, with its new number among them
--
-- Returns 1; or 0, with nothing changed, where the registry does not hold that
-- last report: it has expired, was lost by Redis, or was edited. Then all has to
-- be told again.
if redis.pcall('HGET', KEYS[2], 'report') ~= ARGV[3] then return 0 end
local time = redis.call('TIME')
local added = redis.pcall('ZADD', KEYS[1], string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)), ARGV[1])
if added ~= 0 then
  if added == 1 then redis.call('ZREM', KEYS[1], ARGV[1]) end -- it joins by a whole report
  return 0
end
redis.call('HSET', KEYS[2], unpack(ARGV, 4))
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 1
