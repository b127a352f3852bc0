-- loads.lua gives this moment a number among the loads of the source: a load
-- with a greater one begins later.
--
-- KEYS[1]  stats       ARGV[1]  "1": a load begins from now on, or never
--
-- The number is the time in µs, for a count is lost with its key, and by a
-- failover, and would then begin below the loads that metas name. Where the
-- clock stands still or went back it is one more than that of the newest load.
-- Two servers of one fleet are taken to agree on the time to within what a
-- failover takes: a request from before it is else served by a load from before it.
-- Returns it, and a key of another type that was replaced, if there was one.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local stored = redis.pcall('HGET', KEYS[1], 'loads')
local failed = type(stored) == 'table' and stored.err
local foreign = failed and string.find(failed, 'WRONGTYPE', 1, true)
if failed and not foreign then return redis.error_reply(failed) end
local newest = not foreign and tonumber(stored or '0') or 0
if newest > now + 86400000000 then newest = 0 end -- none of ours: no two clocks are a day apart
if ARGV[1] ~= '1' then return {string.format('%.0f', math.max(now, newest))} end
local n = string.format('%.0f', math.max(now, newest + 1))
if foreign then redis.call('DEL', KEYS[1]) end
redis.call('HSET', KEYS[1], 'loads', n)
if foreign then return {n, KEYS[1]} end
return {n}
