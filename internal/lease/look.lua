-- look.lua tells how a lock stands.
--
-- KEYS[1]  the lock, a string
--
-- Returns { milliseconds it still runs, its type, its value }: -2, "none" and ""
-- when nobody holds it; -1 when it has no time to live; "" for a value that is no
-- string. Writes nothing.
local kind = redis.call('TYPE', KEYS[1])['ok']
local value = ''
if kind == 'string' then value = redis.call('GET', KEYS[1]) end
return { redis.call('PTTL', KEYS[1]), kind, value }
