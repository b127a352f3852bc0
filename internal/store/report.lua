-- report.lua is a replica's heartbeat.
--
-- KEYS[1]  replicas    KEYS[2]  replica:ID
-- ARGV[1]  id          ARGV[2]  ms until the hash expires
-- ARGV[3]  ms after which a silent replica leaves the set
-- ARGV[4]  channel     ARGV[5]  ms for which a replica counts as live
-- ARGV[6…] fields and values of the hash
--
-- Returns the keys that had another type, which nobody but a replica has any
-- business with, and were replaced; and what live.lua does.
local replaced = {}

-- put runs a command on one of our keys, and first makes room for it where
-- another type of key stands. Any other error, such as that memory is full, ends
-- the script and leaves everything as it is.
local function put(key, command, ...)
  local reply = redis.pcall(command, key, ...)
  if type(reply) ~= 'table' or not reply.err then return reply end
  if not string.find(reply.err, 'WRONGTYPE', 1, true) then return redis.call(command, key, ...) end
  redis.call('UNLINK', key)
  replaced[#replaced + 1] = key
  return redis.call(command, key, ...)
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local stamp = string.format('%.0f', now)
local new = put(KEYS[1], 'ZADD', stamp, ARGV[1])
put(KEYS[2], 'HSET', unpack(ARGV, 6))
redis.call('PEXPIRE', KEYS[2], ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now - tonumber(ARGV[3])))
if new == 1 then
  redis.call('HSET', KEYS[2], 'since', stamp)
  redis.pcall('PUBLISH', ARGV[4], cjson.encode({event = 'joined', kind = '', tag = '', by = ARGV[1], reason = ''}))
end
local live = redis.call('ZRANGEBYSCORE', KEYS[1], string.format('%.0f', now - tonumber(ARGV[5])), '+inf', 'WITHSCORES')
table.insert(live, 1, stamp)
return {replaced, live}
