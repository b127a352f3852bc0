-- publish.lua brings in everything one warm changed, or changes nothing.
--
-- KEYS[1]  head        KEYS[2]  lock:warm     KEYS[3]  stats     KEYS[4]  config
-- then five for each kind of the request, in its order:
--          snapshot, meta, changes, pin, stage
-- ARGV[1]  the request as JSON:
--            lock         exact value the warm lock must hold
--            attempt      id of this publish; a retry finds its own in meta
--            incarnation  of the head the warmer saw, "" for none
--            fresh        incarnation to begin when there is no head, or when the
--                         lineage of a kind is another than before, or is not known
--            channel, by, reason, load, background ("1" or ""), changed ("1" or "")
--            tookMs       how long the warm took, budget: bytes kept in changes
--            hint         what the bell carries, "" for nothing; only if the head of
--            others       kinds that are not of the request, is at these tags
--            kinds[]      name, mode, expect, tag, base, version, digest, count,
--                         bytes, lineage, revision, schema, quarantined, had,
--                         from, sets, removes, entryBytes, unpin, replace
--          from is the digest of the copy that a difference was made from, as
--          meta has it; numbers are decimal strings; mode is one of
--            touch  nothing differs: only verifiedAt and revision move
--            retag  the content stays, a new version says it is current again
--            delta  set and remove the records that follow
--            whole  the staged hash replaces the snapshot ("" count: no hash)
-- ARGV[2…] for each kind: sets pairs of id and record, removes ids, and, unless
--          the mode is touch, the JSON of the entry's set, removed and prev
--
-- Returns {"ok", Redis's time in Unix ms, the keys of other types that were
--          replaced…} or
--   {"done"}              this very attempt was applied before
--   {"lease"}             the lock is not ours any more
--   {"head", kind}        the head moved since the warmer read it
--   {"version", kind, n}  version n or later was used before
--   {"order", kind, lineage, revision}  Redis holds something newer
--   {"lineage", kind, lineage, revision}  Redis holds another lineage, and it is
--                         not to be replaced
--   {"pinned", kind}      an operator holds the kind
--   {"damaged", kind}     a key has the wrong type, size or content: replace it whole
--   {"stage", kind}       the staged hash is not complete any more
-- A bell that may not be rung (an ACL without PUBLISH) fails nothing: the look
-- of every replica finds the new head.
-- Nothing is written before every check has passed, for Redis does not undo a
-- script that fails midway.
local req = cjson.decode(ARGV[1])
local head = redis.pcall('HGETALL', KEYS[1])
local current = {}
if not head.err then
  for i = 1, #head, 2 do current[head[i]] = head[i + 1] end
end

-- A field of the head that is no tag counts as missing, as it does to readers.
for name, tag in pairs(current) do
  if name ~= 'incarnation' and name ~= 'config' then
    local version, rest = string.match(tag, '^([1-9]%d*)%-(%w+)$')
    if not version or tonumber(version) > 9007199254740991 or
        (rest ~= 'invalid' and not string.match(rest, '^[0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f]$')) then
      current[name] = nil
    end
  end
end

-- foreign tells whether somebody put another type of key in our place.
local function foreign(key, want)
  local kind = redis.call('TYPE', key)['ok']
  return kind ~= 'none' and kind ~= want
end

local writes = false
for _, k in ipairs(req.kinds) do
  if k.mode ~= 'touch' then writes = true end
end

local function keysOf(i)
  local at = 4 + (i - 1) * 5
  return KEYS[at + 1], KEYS[at + 2], KEYS[at + 3], KEYS[at + 4], KEYS[at + 5]
end

-- Checks. The first finding ends the script.
local metas, seen, another = {}, false, req.incarnation == ''
for i, k in ipairs(req.kinds) do
  local _, meta = keysOf(i)
  metas[i] = redis.pcall('HMGET', meta, 'attempt', 'lineage', 'revision', 'version', 'digest')
  if metas[i].err then
    if k.mode ~= 'whole' then return {'damaged', k.name} end
    metas[i] = {}
  end
  if metas[i][1] == req.attempt then seen = true end
end
-- An ACL that forbids a command can end a script midway. Only the head says of
-- every kind that it was done.
if seen then
  local missing
  for i, k in ipairs(req.kinds) do
    local at = current[k.name] or ''
    if metas[i][1] ~= req.attempt or (k.mode ~= 'touch' and at ~= k.tag) then
      if at ~= k.expect and at ~= k.tag then return {'head', k.name} end
      missing = missing or k.name
    end
  end
  if missing then return {'damaged', missing} end
  return {'done'}
end
if writes and redis.pcall('GET', KEYS[2]) ~= req.lock then return {'lease'} end
if (current['incarnation'] or '') ~= req.incarnation then return {'head', ''} end
for i, k in ipairs(req.kinds) do
  local snapshot, meta, changes, pin, stage = keysOf(i)
  if (current[k.name] or '') ~= k.expect then return {'head', k.name} end
  -- What is left as it is has to be there: meta may have been evicted.
  if k.mode == 'touch' and not metas[i][4] then return {'damaged', k.name} end
  local lineage, revision = metas[i][2], metas[i][3]
  if lineage then
    if lineage > k.lineage or (lineage == k.lineage and (tonumber(revision) or 0) > tonumber(k.revision)) then
      return {'order', k.name, lineage, revision}
    end
    -- A copy whose tag is the head's by chance, from another data set, says
    -- another lineage: replicas have to be given that under a tag of its own.
    if lineage ~= k.lineage then
      if k.replace ~= '1' then return {'lineage', k.name, lineage, revision} end
      if k.mode == 'touch' then return {'damaged', k.name} end
    end
  end
  -- Versions begin again where a failover lost them, so one tag may come to
  -- stand for two places. In one incarnation it never does for two lineages:
  -- whoever holds the tag of the old one reads the place of the new one.
  if k.mode ~= 'touch' and lineage ~= k.lineage then another = true end
  if k.mode ~= 'touch' then
    if k.unpin ~= '1' and redis.call('TYPE', pin)['ok'] == 'hash' then return {'pinned', k.name} end
    if foreign(changes, 'stream') then
      if k.mode ~= 'whole' then return {'damaged', k.name} end
    else
      local last = redis.call('XREVRANGE', changes, '+', '-', 'COUNT', '1')[1]
      if last then
        local n = tonumber(string.match(last[1], '^%d+'))
        if n >= tonumber(k.version) then return {'version', k.name, string.format('%.0f', n)} end
      end
    end
    if k.mode == 'delta' or k.mode == 'retag' then
      -- The head may be the one that was seen, and the copy that was pulled after it
      -- another data set's: Redis was flushed meanwhile, and its old data came back.
      if metas[i][5] ~= k.from then return {'damaged', k.name} end
      if redis.pcall('HLEN', snapshot) ~= tonumber(k.had) then return {'damaged', k.name} end
    elseif tonumber(k.count) > 0 and redis.pcall('HLEN', stage) ~= tonumber(k.count) then
      return {'stage', k.name}
    end
  end
end

-- Writes.
local time = redis.call('TIME')
local now = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
local replaced = {}
local function replace(key, want)
  if foreign(key, want) then
    redis.call('UNLINK', key)
    replaced[#replaced + 1] = key
  end
end
if req.incarnation == '' then replace(KEYS[1], 'hash') end
if another then redis.call('HSET', KEYS[1], 'incarnation', req.fresh) end
if req.incarnation == '' then
  local config = redis.pcall('HGET', KEYS[4], 'version')
  if type(config) == 'string' then redis.call('HSET', KEYS[1], 'config', config) end
end

-- changes gets one entry for the version, and loses the oldest ones beyond the
-- budget. "sum" counts the bytes of all entries so far, so that what is kept is
-- the difference between the last and the first.
local function record(changes, k, set, removed, prev)
  local sum, last = tonumber(k.entryBytes), redis.call('XREVRANGE', changes, '+', '-', 'COUNT', '1')[1]
  if last then
    for f = 1, #last[2], 2 do
      if last[2][f] == 'sum' then sum = sum + (tonumber(last[2][f + 1]) or 0) end
    end
  end
  redis.call('XADD', changes, k.version .. '-0', 'tag', k.tag, 'base', k.base,
    'whole', k.mode == 'whole' and '1' or '0', 'set', set, 'removed', removed, 'prev', prev,
    'reason', req.reason, 'by', req.by, 'at', now, 'sum', string.format('%.0f', sum))
  for _ = 1, 1000 do
    local first = redis.call('XRANGE', changes, '-', '+', 'COUNT', '1')[1]
    if not first or first[1] == k.version .. '-0' then break end
    local upto = 0
    for f = 1, #first[2], 2 do
      if first[2][f] == 'sum' then upto = tonumber(first[2][f + 1]) or 0 end
    end
    if sum - upto <= tonumber(req.budget) then break end
    redis.call('XDEL', changes, first[1])
  end
end

-- What another data set begins with, or a head that moved elsewhere, no hint tells.
local hint = another and '' or req.hint or ''
for name, tag in pairs(req.others or {}) do
  if (current[name] or '') ~= tag then hint = '' end
end

local arg = 2
for i, k in ipairs(req.kinds) do
  local snapshot, meta, changes, pin, stage = keysOf(i)
  if k.mode == 'whole' then
    replace(snapshot, 'hash')
    replace(meta, 'hash')
    replace(changes, 'stream')
    redis.call('UNLINK', snapshot)
    if tonumber(k.count) > 0 then
      redis.call('RENAME', stage, snapshot)
      redis.call('PERSIST', snapshot)
    end
  end
  if k.mode ~= 'touch' then replace(pin, 'hash') end
  local sets, removes = tonumber(k.sets), tonumber(k.removes)
  for from = 0, sets - 1, 1000 do
    local upto = math.min(from + 1000, sets)
    redis.call('HSET', snapshot, unpack(ARGV, arg + 2 * from, arg + 2 * upto - 1))
  end
  arg = arg + 2 * sets
  for from = 0, removes - 1, 1000 do
    local upto = math.min(from + 1000, removes)
    redis.call('HDEL', snapshot, unpack(ARGV, arg + from, arg + upto - 1))
  end
  arg = arg + removes
  if k.mode == 'touch' then
    redis.call('HSET', meta, 'verifiedAt', now, 'lineage', k.lineage, 'revision', k.revision,
      'attempt', req.attempt, 'load', req.load, 'quarantined', k.quarantined)
  else
    redis.call('HSET', meta, 'version', k.version, 'digest', k.digest, 'count', k.count, 'bytes', k.bytes,
      'lineage', k.lineage, 'revision', k.revision, 'attempt', req.attempt, 'schema', k.schema,
      'reason', req.reason, 'warmedAt', now, 'verifiedAt', now, 'warmedBy', req.by,
      'durationMs', req.tookMs, 'load', req.load, 'quarantined', k.quarantined)
    record(changes, k, ARGV[arg], ARGV[arg + 1], ARGV[arg + 2])
    arg = arg + 3
    redis.call('HSET', KEYS[1], k.name, k.tag)
    current[k.name] = k.tag
  end
end

-- Bells come when all is written: who hears a hint hears what Redis holds. It goes
-- with the first one; those that follow say by an empty hint that they were hinted at.
local hinted = hint ~= ''
for _, k in ipairs(req.kinds) do
  if k.mode ~= 'touch' then
    local bell = cjson.encode({event = 'published', kind = k.name, tag = k.tag, by = req.by, reason = req.reason})
    if hinted then bell = string.sub(bell, 1, -2) .. ',"hint":"' .. hint .. '"}' end
    redis.pcall('PUBLISH', req.channel, bell)
    hint = ''
  end
end

-- Counters come last and may not fail what has been published.
redis.pcall('HINCRBY', KEYS[3], 'totalWarms', 1)
redis.pcall('HSET', KEYS[3], 'lastWarmTime', now, 'lastWarmDuration', req.tookMs)
if req.background == '1' then redis.pcall('HINCRBY', KEYS[3], 'backgroundRefreshCount', 1) end
if req.changed == '1' then redis.pcall('HINCRBY', KEYS[3], 'invalidationCount', 1) end
return {'ok', now, unpack(replaced)}
