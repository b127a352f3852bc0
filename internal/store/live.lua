-- live.lua lists the replicas that reported lately.
--
-- KEYS[1]  replicas    ARGV[1]  ms that count as lately
--
-- Returns id, ms since its heartbeat, and so on.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local out = redis.call('ZRANGEBYSCORE', KEYS[1], string.format('%.0f', now - tonumber(ARGV[1])), '+inf', 'WITHSCORES')
for i = 2, #out, 2 do
  out[i] = string.format('%.0f', math.max(0, now - tonumber(out[i])))
end
return out
