-- live.lua lists the replicas that reported lately.
--
-- KEYS[1]  replicas    ARGV[1]  ms that count as lately
--
-- Returns the time, and id, time of its heartbeat, and so on, in Unix ms.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local out = redis.call('ZRANGEBYSCORE', KEYS[1], string.format('%.0f', now - tonumber(ARGV[1])), '+inf', 'WITHSCORES')
table.insert(out, 1, string.format('%.0f', now))
return out
