--[[
What the scripts of this folder share. It stands in front of each of them (infra/events/scripts.ts) with the table `N`
of key names and the constants SHARDS, CHUNK, KEPT_MS, DEAD_KEPT_MS, IDEMPOTENCY_MS, LOST_MAX, DIED_MAX.

Input:  functions take an id or a record `r` as `read` returns it, `now` in ms of this Redis, and the list `jobs`
Output: `jobs` gets { shard, job id, invocation id... } for each BullMQ job the caller must add. If the caller dies
        before that, sweep.lua tells another one.

How an invocation waits: with an ordering key it first stands in its line, and only the head goes on. Then it waits in
the room of its function, sorted by priority and age. As many as the function's window allows are released into
BullMQ, and the window is free again when an invocation has ended or waits. So the queue holds a bounded number of each
function's jobs, and no backlog stands in front of another function's events.
]]
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local FIELDS = { 's', 'fn', 'key', 'seq', 'pri', 'by', 'ik', 'f', 'n', 'c', 'l', 'exp', 'job', 'died', 'pol', 'cs', 'org' }

-- Undefined fields are false. `id` is set, too. Nil when there is no such record.
local function read(id)
  local values = redis.call('HMGET', N.record .. id, unpack(FIELDS))
  if not values[1] then return nil end
  local r = { id = id }
  for i, field in ipairs(FIELDS) do r[field] = values[i] end
  return r
end

-- Two shards for each function, taken in turn: if one is slow, the other still moves.
local function shard_of(fn, turn)
  local hash = redis.sha1hex(fn)
  local first = tonumber(string.sub(hash, 1, 4), 16) % SHARDS
  if turn % 2 == 0 or SHARDS == 1 then return first end
  return (first + 1 + tonumber(string.sub(hash, 5, 8), 16) % (SHARDS - 1)) % SHARDS
end

-- How many of `wanted` may start now when `rate` a second may, with a second's worth at once (GCRA).
local function take_rate(fn, rate, wanted, now)
  local interval = 1000 / rate
  local tat = math.max(tonumber(redis.call('GET', N.rate .. fn) or 0), now - 1000 + interval)
  local allowed = math.min(wanted, math.max(0, math.floor((now - tat) / interval + 1)))
  if allowed > 0 then
    redis.call('SET', N.rate .. fn, string.format('%.3f', tat + allowed * interval), 'PX', 10000)
  end
  if allowed < wanted then
    redis.call('ZADD', N.throttled, math.ceil(tat + allowed * interval), fn)
  end
  return allowed
end

-- Moves what the window allows from the room into BullMQ.
local function release(fn, now, jobs)
  local width, rate = string.match(redis.call('HGET', N.limits, fn) or '', '^(%d+):([%d.]+)$')
  local free = (tonumber(width) or 16) - redis.call('ZCARD', N.window .. fn)
  if free <= 0 then return end
  local waiting = redis.call('ZCARD', N.room .. fn)
  local count = math.min(free, waiting)
  if count > 0 and rate and tonumber(rate) > 0 then count = take_rate(fn, tonumber(rate), count, now) end
  if count >= waiting then redis.call('SREM', N.rooms, fn) end
  if count <= 0 then return end
  local popped = redis.call('ZPOPMIN', N.room .. fn, count)
  -- A few jobs rather than one, so that several consumers share them.
  local size = math.min(CHUNK, math.max(1, math.ceil(count / 4)))
  for first = 1, #popped, 2 * size do
    local turn = redis.call('HINCRBY', N.stats, 'jobs', 1)
    local name = popped[first] .. '-' .. turn
    local job = { shard_of(fn, turn), name }
    for i = first, math.min(first + 2 * size - 2, #popped), 2 do
      local id = popped[i]
      redis.call('HSET', N.record .. id, 'job', name)
      redis.call('ZADD', N.window .. fn, now, id)
      redis.call('ZADD', N.released, now, id)
      job[#job + 1] = id
    end
    jobs[#jobs + 1] = job
  end
end

-- Ready: into the room, unless somebody with the same ordering key is ahead.
local function make_ready(r, now, jobs)
  redis.call('HSET', N.record .. r.id, 's', 'ready')
  if r.key and redis.call('ZRANGE', N.line .. r.key, 0, 0)[1] ~= r.id then return end
  redis.call('ZADD', N.room .. r.fn, tonumber(r.pri) * 70368744177664 + tonumber(r.seq), r.id)
  redis.call('SADD', N.rooms, r.fn)
  release(r.fn, now, jobs)
end

-- Takes it out of everything that makes it run. Its window is free afterwards.
local function unschedule(r)
  redis.call('ZREM', N.leases, r.id)
  redis.call('ZREM', N.due, r.id)
  redis.call('ZREM', N.released, r.id)
  redis.call('ZREM', N.room .. r.fn, r.id)
  redis.call('ZREM', N.window .. r.fn, r.id)
end

local function delay_until(r, state, due)
  unschedule(r)
  redis.call('HSET', N.record .. r.id, 's', state, 'due', due)
  redis.call('ZADD', N.due, due, r.id)
end

-- The one way to a final state.
local function finalize(r, state, reason, now, jobs)
  local record = N.record .. r.id
  unschedule(r)
  redis.call('ZREM', N.expiry, r.id)
  redis.call('HSET', record, 's', state, 'end', now, 'why', reason)
  redis.call('HDEL', record, 'job', 'due')
  redis.call('HINCRBY', N.stats, state, 1)
  redis.call('HINCRBY', N.stats, 'bytes', -tonumber(r.by))
  if redis.call('HINCRBY', N.unfinished, r.fn, -1) <= 0 then redis.call('HDEL', N.unfinished, r.fn) end
  local policy = cjson.decode(r.pol)
  if state == 'dead' or state == 'expired' then
    redis.call('ZADD', N.dead, now, r.id)
    redis.call('PEXPIRE', record, DEAD_KEPT_MS)
    redis.call('PEXPIRE', N.request .. r.id, DEAD_KEPT_MS)
  else
    redis.call('PEXPIRE', record, KEPT_MS)
    redis.call('PEXPIRE', N.request .. r.id, policy.resultMs)
  end
  if r.ik then redis.call('PEXPIRE', N.idempotency .. r.ik, IDEMPOTENCY_MS) end
  redis.call('PUBLISH', N.ended .. r.id, state)
  if r.key then
    redis.call('ZREM', N.line .. r.key, r.id)
    local head = redis.call('ZRANGE', N.line .. r.key, 0, 0)[1]
    local next = head and read(head)
    if next and next.s == 'ready' then make_ready(next, now, jobs) end
  end
  release(r.fn, now, jobs)
end

-- Writes the end of the present attempt.
local function end_attempt(r, outcome, detail)
  local field = 'a' .. r.n
  local attempt = cjson.decode(redis.call('HGET', N.record .. r.id, field) or '{}')
  for key, value in pairs(detail) do attempt[key] = value end
  attempt.outcome = outcome
  redis.call('HSET', N.record .. r.id, field, cjson.encode(attempt))
  redis.call('HINCRBY', N.stats, 'outcome:' .. outcome, 1)
end

-- Its attempt's outcome is lost. `died` names the runner (with its epoch) that ended under it, or is ''.
local function lose(r, died, detail, now, jobs)
  local record = N.record .. r.id
  end_attempt(r, 'lost', detail)
  local lost = redis.call('HINCRBY', record, 'l', 1)
  local runners = r.died or ''
  if died ~= '' and not string.find(runners, died .. ' ', 1, true) then
    runners = runners .. died .. ' '
    redis.call('HSET', record, 'died', runners)
  end
  local _, count = string.gsub(runners, ' ', '')
  if lost >= LOST_MAX or count >= DIED_MAX then
    finalize(r, 'dead', 'poison_suspect', now, jobs)
    return 'dead'
  end
  unschedule(r)
  make_ready(r, now, jobs)
  return 'ready'
end

-- Writes a new invocation. `a` has the fields of accept.lua's input. Returns what accept.lua does.
local function accept_event(a, now)
  local known = redis.call('HGET', N.record .. a.id, 's')
  if known then return { 'EXISTS', known } end
  if a.scope ~= '' then
    local held = redis.call('HMGET', N.idempotency .. a.scope, 'fp', 'id')
    if held[1] then
      if held[1] == a.fingerprint then return { 'SAME', held[2] } end
      return { 'OTHER', held[2] }
    end
  end
  local count = tonumber(redis.call('HGET', N.unfinished, a.fn) or 0)
  if count >= tonumber(a.count_max) then return { 'FULL', 'count', count } end
  local bytes = #a.head + #a.body + 512
  local total = tonumber(redis.call('HGET', N.stats, 'bytes') or 0)
  if total + bytes > tonumber(a.bytes_max) then return { 'FULL', 'bytes', total } end

  local record = N.record .. a.id
  local seq = redis.call('HINCRBY', N.stats, 'seq', 1)
  redis.call('HINCRBY', N.stats, 'accepted', 1)
  local expires = now + tonumber(a.age)
  redis.call('HSET', record, 's', 'ready', 'fn', a.fn, 'acc', now, 'exp', expires, 'seq', seq, 'pri', a.priority,
    'pol', a.policy, 'org', a.origin, 'by', bytes, 'n', 0, 'c', 0, 'l', 0, 'f', 0)
  redis.call('HSET', N.request .. a.id, 'h', a.head, 'b', a.body)
  if a.blob ~= '' then redis.call('HSET', N.request .. a.id, 'blob', a.blob) end
  redis.call('ZADD', N.expiry, expires, a.id)
  redis.call('HINCRBY', N.unfinished, a.fn, 1)
  redis.call('HINCRBY', N.stats, 'bytes', bytes)
  redis.call('HSET', N.limits, a.fn, a.limits)
  if a.scope ~= '' then
    redis.call('HSET', record, 'ik', a.scope)
    redis.call('HSET', N.idempotency .. a.scope, 'fp', a.fingerprint, 'id', a.id, 'kind', 'async')
  end
  if a.line ~= '' then
    redis.call('HSET', record, 'key', a.line)
    redis.call('ZADD', N.line .. a.line, seq, a.id)
  end
  local jobs = {}
  local delay = tonumber(a.delay)
  if delay > 0 then
    redis.call('HSET', record, 's', 'delayed', 'due', now + delay)
    redis.call('ZADD', N.due, now + delay, a.id)
    return { 'OK', now, 'delayed' }
  end
  make_ready({ id = a.id, fn = a.fn, seq = seq, pri = a.priority, key = a.line ~= '' and a.line }, now, jobs)
  return { 'OK', now, 'ready', unpack(jobs) }
end

-- Reads the input of accept.lua from ARGV, from `first` (the id) on.
local function read_event(first)
  local names = { 'id', 'fn', 'delay', 'age', 'priority', 'line', 'policy', 'limits', 'origin', 'head', 'body', 'blob',
    'scope', 'fingerprint', 'count_max', 'bytes_max' }
  local a = {}
  for i, name in ipairs(names) do a[name] = ARGV[first + i - 1] end
  return a
end
