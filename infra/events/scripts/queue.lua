--[[
What the scripts of this folder share. It stands in front of each of them (infra/events/scripts.ts) with the table `N`
of key names and the constants SHARDS, CHUNK, KEPT_MS, DEAD_KEPT_MS, IDEMPOTENCY_MS, LOST_MAX, LOST_DELAY_MS, DIED_MAX,
STEPS_MAX, STEPS_BYTES_MAX, GROUP_MS.

Input:  functions take an id or a record `r` as `read` returns it, `now` in ms of this Redis, and the list `jobs`
Output: `jobs` gets { shard, job id, invocation id... } for each BullMQ job the caller must add. If the caller dies
        before that, sweep.lua tells another one.

How an invocation waits: with an ordering key it first stands in its line, and only the head goes on. Then it waits in
the room of its function, sorted by priority and age. As many as the function's window allows are released into
BullMQ, and the window is free again when an invocation has ended or waits. So the queue holds a bounded number of each
function's jobs, and no backlog stands in front of another function's events.

Every call here is one that all others wait for, and every write goes to the disk: fields of one key are written at
once, and nothing is removed that the state says is not there.
]]
local call = redis.call

local function clock()
  local time = call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local FIELDS = { 's', 'fn', 'key', 'seq', 'pri', 'by', 'ik', 'f', 'n', 'l', 'exp', 'job', 'died', 'rms', 'cs', 'df', 'nx', 'dst',
  'stn', 'slp', 'grp' }

-- Undefined fields are false. `id` is set, too. Nil when there is no such record.
local function read(id)
  local values = call('HMGET', N.record .. id, unpack(FIELDS))
  if not values[1] then return nil end
  local r = { id = id }
  for i, field in ipairs(FIELDS) do r[field] = values[i] end
  return r
end

local function is_final(state)
  return state == 'succeeded' or state == 'dead' or state == 'expired' or state == 'cancelled'
end

-- Two shards for each function, taken in turn: if one is slow, the other still moves.
local function shard_of(fn, turn)
  local hash = redis.sha1hex(fn)
  local first = tonumber(string.sub(hash, 1, 4), 16) % SHARDS
  if turn % 2 == 0 or SHARDS == 1 then return first end
  return (first + 1 + tonumber(string.sub(hash, 5, 8), 16) % (SHARDS - 1)) % SHARDS
end

-- How many may be in BullMQ or run, and starts a second (0: any number).
local function limits_of(fn)
  local width, rate = string.match(call('HGET', N.limits, fn) or '', '^(%d+):([%d.]+)$')
  return tonumber(width) or 16, tonumber(rate) or 0
end

-- How many of `wanted` may start now when `rate` a second may, with a second's worth at once (GCRA).
local function take_rate(fn, rate, wanted, now)
  local interval = 1000 / rate
  local tat = math.max(tonumber(call('GET', N.rate .. fn) or 0), now - 1000 + interval)
  local allowed = math.min(wanted, math.max(0, math.floor((now - tat) / interval + 1)))
  if allowed > 0 then
    call('SET', N.rate .. fn, string.format('%.3f', tat + allowed * interval), 'PX', 10000)
  end
  if allowed < wanted then call('ZADD', N.throttled, math.ceil(tat + allowed * interval), fn) end
  return allowed
end

local function new_job(first, fn)
  local turn = call('HINCRBY', N.stats, 'jobs', 1)
  return { shard_of(fn, turn), first .. '-' .. turn }
end

-- Set by finish.lua: a consumer that ends attempts may begin a function's next ones in the same write, which saves the
-- way through BullMQ while there is a backlog. { fn, consumer, lease, begun }, without `begun` when there is none left.
local taker = nil

-- What a consumer needs to run an attempt. The record says everything; `r` only which attempt it is.
local function describe_begun(id)
  local record = call('HMGET', N.record .. id, 'f', 'n', 'fn', 'c', 'pol', 'org')
  local request = call('HMGET', N.request .. id, 'h', 'b', 'blob')
  return { id, record[1], record[2], record[3], record[4], record[5], record[6], request[1], request[2], request[3] }
end

-- Begins an attempt: written before a byte goes to a sandbox.
local function begin_attempt(r, consumer, lease, now)
  local n = string.format('%d', r.n + 1)
  local fence = string.format('%d', r.f + 1)
  local attempt = string.format('{"number":%s,"fence":%s,"startedMs":%d,"consumer":"%s"}', n, fence, now, consumer)
  call('HSET', N.record .. r.id, 's', 'running', 'n', n, 'f', fence, 'cs', consumer, 'job', '', 'a' .. n, attempt)
  call('ZADD', N.leases, now + lease, r.id)
  return describe_begun(r.id)
end

-- Begins the first of `popped` for the taker, unless its time is over: that is begin.lua's to say.
local function try_take(popped, now)
  local r = read(popped[1])
  if tonumber(r.exp) <= now then return end
  call('ZADD', N.window .. r.fn, now, r.id)
  taker.begun = begin_attempt(r, taker.consumer, taker.lease, now)
  table.remove(popped, 1)
  table.remove(popped, 1)
end

-- Moves what the window allows from the room into BullMQ.
local function release(fn, now, jobs)
  local width, rate = limits_of(fn)
  local free = width - call('ZCARD', N.window .. fn)
  if free <= 0 then return end
  local waiting = call('ZCARD', N.room .. fn)
  local count = math.min(free, waiting)
  if count > 0 and rate > 0 then count = take_rate(fn, rate, count, now) end
  if count >= waiting then call('SREM', N.rooms, fn) end
  if count <= 0 then return end
  local popped = call('ZPOPMIN', N.room .. fn, count)
  if taker and taker.fn == fn and not taker.begun then try_take(popped, now) end
  -- A few jobs rather than one, so that several consumers share them.
  local size = math.min(CHUNK, math.max(1, math.ceil(count / 4)))
  for first = 1, #popped, 2 * size do
    local job = new_job(popped[first], fn)
    for i = first, math.min(first + 2 * size - 2, #popped), 2 do
      local id = popped[i]
      call('HSET', N.record .. id, 'job', job[2])
      call('ZADD', N.window .. fn, now, id)
      job[#job + 1] = id
    end
    jobs[#jobs + 1] = job
  end
end

-- Whether an ordering key holds it back: somebody with the same one is ahead.
local function is_behind(r)
  return r.key and call('ZRANGE', N.line .. r.key, 0, 0)[1] ~= r.id
end

local function enter_room(r, now, jobs)
  call('ZADD', N.room .. r.fn, r.pri * 70368744177664 + r.seq, r.id)
  call('SADD', N.rooms, r.fn)
  release(r.fn, now, jobs)
end

local function make_ready(r, now, jobs)
  call('HSET', N.record .. r.id, 's', 'ready')
  if not is_behind(r) then enter_room(r, now, jobs) end
end

-- Takes it out of everything that makes it run; of a running one the window is free afterwards.
local function unschedule(r)
  if r.s == 'running' then
    call('ZREM', N.leases, r.id)
    call('ZREM', N.window .. r.fn, r.id)
  elseif r.s == 'ready' then
    if call('ZREM', N.room .. r.fn, r.id) == 0 then call('ZREM', N.window .. r.fn, r.id) end
  else
    call('ZREM', N.due, r.id)
  end
end

-- What its steps waited for is not waited for any more.
local function end_steps(r, kept)
  local sleeping, steps = N.sleeping .. r.id, N.steps .. r.id
  for _, step in ipairs(call('ZRANGE', sleeping, 0, -1)) do
    local event = cjson.decode(call('HGET', steps, step) or '{}').event
    if event then call('ZREM', N.waiters .. event, r.id .. ' ' .. step) end
  end
  call('DEL', sleeping)
  call('PEXPIRE', steps, kept)
end

-- A running invocation holds nothing until its first sleep is over or the event has come. The attempt goes on under its
-- number, and time asleep is not part of its age.
local function suspend(r, fence, now, jobs)
  local record = N.record .. r.id
  local first = call('ZRANGE', N.sleeping .. r.id, 0, 0, 'WITHSCORES')
  local has_news = call('HDEL', record, 'wk') == 1 or not first[2]
  local due = has_news and now or math.max(now, tonumber(first[2]))
  unschedule(r)
  call('HSET', record, 's', 'waiting', 'due', string.format('%d', due), 'slp', now, 'df', fence, 'n', string.format('%d', r.n - 1))
  call('HDEL', record, 'a' .. r.n)
  call('HINCRBY', record, 'sus', 1)
  call('ZADD', N.due, due, r.id)
  call('ZADD', N.expiry, r.exp + due - now, r.id)
  release(r.fn, now, jobs)
  return 'waiting'
end

local function wake(r, now, jobs)
  local expires = string.format('%d', r.exp + now - r.slp)
  call('ZREM', N.due, r.id)
  call('HDEL', N.record .. r.id, 'due', 'slp')
  call('HSET', N.record .. r.id, 'exp', expires)
  call('ZADD', N.expiry, expires, r.id)
  make_ready(r, now, jobs)
end

-- The one way to a final state. `fields` are written with it.
local function finalize(r, state, reason, now, jobs, fields)
  local record = N.record .. r.id
  unschedule(r)
  call('ZREM', N.expiry, r.id)
  call('HSET', record, 's', state, 'end', now, 'why', reason, unpack(fields or {}))
  if r.job and r.job ~= '' then call('HDEL', record, 'job') end
  if r.s == 'delayed' or r.s == 'retry_wait' or r.s == 'waiting' then call('HDEL', record, 'due', 'slp') end
  call('HINCRBY', N.stats, state, 1)
  call('HINCRBY', N.stats, 'bytes', -r.by)
  if call('HINCRBY', N.unfinished, r.fn, -1) <= 0 then call('HDEL', N.unfinished, r.fn) end
  if state == 'dead' or state == 'expired' then
    call('ZADD', N.dead, now, r.id)
    call('PEXPIRE', record, DEAD_KEPT_MS)
    call('PEXPIRE', N.request .. r.id, DEAD_KEPT_MS)
    if r.stn then end_steps(r, DEAD_KEPT_MS) end
  else
    call('PEXPIRE', record, KEPT_MS)
    call('PEXPIRE', N.request .. r.id, r.rms)
    if r.stn then end_steps(r, r.rms) end
  end
  if r.ik then call('PEXPIRE', N.idempotency .. r.ik, IDEMPOTENCY_MS) end
  -- Who is to be told is written with the end itself: it is told later, but never forgotten.
  local is_told = r.dst and string.find(r.dst, state == 'succeeded' and 's' or 'f', 1, true)
  if is_told and state ~= 'cancelled' then
    call('ZADD', N.outbox, now, r.id)
    call('HSET', record, 'out', 'pending', 'outn', 0)
  end
  call('PUBLISH', N.ended .. r.id, state)
  -- The last of a group to end wakes the one that waits for all of it.
  local follower = r.grp and read(r.grp)
  if follower and call('HINCRBY', N.record .. r.grp, 'gn', -1) == 0 and follower.s == 'waiting' then
    wake(follower, now, jobs)
  end
  if r.key then
    local line = N.line .. r.key
    local was_head = call('ZRANGE', line, 0, 0)[1] == r.id
    call('ZREM', line, r.id)
    -- Only a new head: one that was it before is on its way already.
    local head = was_head and call('ZRANGE', line, 0, 0)[1]
    local next = head and read(head)
    if next and next.s == 'ready' then enter_room(next, now, jobs) end
  end
  release(r.fn, now, jobs)
end

-- Its attempt's outcome is lost; `attempt` is what is written of it. `died` names the runner that ended under it, or ''.
-- `df` is the fence of the holder who says so, or '' when nobody does.
local function lose(r, died, attempt, df, now, jobs)
  local record = N.record .. r.id
  local lost = r.l + 1
  local runners = r.died or ''
  if died ~= '' and not string.find(runners, died .. ' ', 1, true) then runners = runners .. died .. ' ' end
  local _, count = string.gsub(runners, ' ', '')
  local fields = { 'l', lost, 'died', runners, 'a' .. r.n, attempt, 'df', df }
  call('HINCRBY', N.stats, 'outcome:lost', 1)
  if lost >= LOST_MAX or count >= DIED_MAX then
    finalize(r, 'dead', 'poison_suspect', now, jobs, fields)
    return 'dead'
  end
  -- Not at once: whatever ended under it may take a moment to come back, and would be lost again.
  local due = now + LOST_DELAY_MS * lost
  unschedule(r)
  call('HSET', record, 's', 'retry_wait', 'due', string.format('%d', due), unpack(fields))
  call('ZADD', N.due, due, r.id)
  release(r.fn, now, jobs)
  return 'retry_wait'
end

-- Writes a new invocation. `a` has the fields of accept.lua's input. Returns what accept.lua says of it.
local function accept_event(a, now, jobs)
  local record = N.record .. a.id
  local known = call('HGET', record, 's')
  if known then return { 'EXISTS', known } end
  if a.scope ~= '' then
    local held = call('HMGET', N.idempotency .. a.scope, 'fp', 'id')
    if held[1] then
      if held[1] == a.fingerprint then return { 'SAME', held[2] } end
      return { 'OTHER', held[2] }
    end
  end
  if a.group ~= '' and call('HGET', N.record .. a.group, 's') ~= 'waiting' then return { 'ALONE' } end
  local count = call('HINCRBY', N.unfinished, a.fn, 1)
  local bytes = #a.head + #a.body + 512
  local total = call('HINCRBY', N.stats, 'bytes', bytes)
  if count > tonumber(a.count_max) or total > tonumber(a.bytes_max) then
    if call('HINCRBY', N.unfinished, a.fn, -1) == 0 then call('HDEL', N.unfinished, a.fn) end
    call('HINCRBY', N.stats, 'bytes', -bytes)
    if count > tonumber(a.count_max) then return { 'FULL', 'count', count - 1 } end
    return { 'FULL', 'bytes', total - bytes }
  end
  local seq = call('HINCRBY', N.stats, 'seq', 1)
  local expires = now + a.age
  local delay = tonumber(a.delay)
  local state = a.waits == '1' and 'waiting' or delay > 0 and 'delayed' or 'ready'
  local fields = { 's', state, 'fn', a.fn, 'acc', now, 'exp', expires, 'seq', seq, 'pri', a.priority, 'pol', a.policy,
    'rms', a.result_ms, 'org', a.origin, 'by', bytes, 'n', '0', 'c', '0', 'l', '0', 'f', '0' }
  local function add(name, value)
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  local r = { id = a.id, fn = a.fn, seq = seq, pri = a.priority, key = a.line ~= '' and a.line }
  if r.key then
    add('key', a.line)
    call('ZADD', N.line .. a.line, seq, a.id)
  end
  if a.destinations ~= '' then add('dst', a.destinations) end
  if a.scope ~= '' then
    add('ik', a.scope)
    call('HSET', N.idempotency .. a.scope, 'fp', a.fingerprint, 'id', a.id, 'kind', 'async')
  end
  if call('HGET', N.limits, a.fn) ~= a.limits then call('HSET', N.limits, a.fn, a.limits) end
  if a.blob ~= '' then
    call('HSET', N.request .. a.id, 'h', a.head, 'b', a.body, 'blob', a.blob)
  else
    call('HSET', N.request .. a.id, 'h', a.head, 'b', a.body)
  end
  call('ZADD', N.expiry, expires, a.id)
  if a.group ~= '' then
    add('grp', a.group)
    call('HINCRBY', N.record .. a.group, 'gn', 1)
  end
  if state == 'waiting' then
    -- It waits for others, however long they take within their own ages, and does not age meanwhile.
    add('slp', now)
    add('gn', 0)
    call('ZADD', N.expiry, expires + GROUP_MS, a.id)
    call('HSET', record, unpack(fields))
    return { 'OK', now, state }
  end
  if state == 'delayed' then
    add('due', string.format('%d', now + delay))
    call('ZADD', N.due, now + delay, a.id)
    call('HSET', record, unpack(fields))
    return { 'OK', now, state }
  end
  local width, rate = string.match(a.limits, '^(%d+):([%d.]+)$')
  local is_open = rate == '0' and call('ZCARD', N.window .. a.fn) < tonumber(width)
  if is_open and call('ZCARD', N.room .. a.fn) == 0 and not is_behind(r) then
    -- The usual case: nobody waits, and it goes into BullMQ without having been in the room.
    local job = new_job(a.id, a.fn)
    add('job', job[2])
    call('ZADD', N.window .. a.fn, now, a.id)
    call('HSET', record, unpack(fields))
    job[3] = a.id
    jobs[#jobs + 1] = job
  else
    call('HSET', record, unpack(fields))
    if not is_behind(r) then enter_room(r, now, jobs) end
  end
  return { 'OK', now, state }
end

local EVENT = { 'id', 'fn', 'delay', 'age', 'priority', 'line', 'policy', 'result_ms', 'destinations', 'limits', 'origin',
  'head', 'body', 'blob', 'scope', 'fingerprint', 'count_max', 'bytes_max', 'group', 'waits' }

-- Reads the input of accept.lua from ARGV, from `first` (the id) on.
local function read_event(first)
  local a = {}
  for i, name in ipairs(EVENT) do a[name] = ARGV[first + i - 1] end
  return a
end
