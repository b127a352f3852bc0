-- remaining.lua tells how long a lock still runs, and whose it is.
--
-- KEYS[1]  the lock, a string
--
-- Returns { milliseconds, value }: -2 and "" when nobody holds it, -1 when it
-- has no time to live. Writes nothing.
return { redis.call('PTTL', KEYS[1]), redis.call('GET', KEYS[1]) or '' }
