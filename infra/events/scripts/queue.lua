--[[
What the scripts of this folder share. It stands in front of each of them (infra/events/scripts.ts), behind gather.lua,
with the table `N` of key names and the constants SHARDS, CHUNK, KEPT_MS, DEAD_KEPT_MS, IDEMPOTENCY_MS, LOST_MAX,
LOST_DELAY_MS, DIED_DELAY_MS, DIED_MAX, NAMESPACE_WINDOW.

Input:  functions take an id or a record `r` as `read` returns it, `now` in ms of this Redis, and the list `jobs`
Output: `jobs` gets { shard, job id, invocation id... } for each BullMQ job the caller must add. If the caller dies
        before that, sweep.lua tells another one.

How an invocation waits: with an ordering key it first stands in its line, and only the head goes on. Then it waits in
the room of its function, sorted by priority and age. As many as the function's window allows are released into
BullMQ, and the window is free again when an invocation has ended or waits. So the queue holds a bounded number of each
function's jobs, and no backlog stands in front of another function's events. A namespace has a window, too, over all
its functions: when it is full they are held, and go on in turn, so that no namespace stands in front of another.

Every call here is one that all others wait for, and every write goes to the disk: fields of one key are written at
once, and nothing is removed that the state says is not there.
]]

local function clock()
  local time = call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local FIELDS = { 's', 'fn', 'key', 'seq', 'pri', 'by', 'ik', 'f', 'n', 'l', 'exp', 'job', 'died', 'rms', 'cs', 'df', 'nx', 'dst',
  'stn', 'slp', 'grp' }
-- And what an attempt needs.
local ALL_FIELDS = { 'c', 'pol', 'org', unpack(FIELDS) }

-- Undefined fields are false. `id` is set, too. Nil when there is no such record.
local function read(id, fields)
  fields = fields or FIELDS
  local values = call('HMGET', N.record .. id, unpack(fields))
  local r = { id = id }
  for i = 1, #fields do r[fields[i]] = values[i] end
  return r.s and r or nil
end

local function is_final(state)
  return state == 'succeeded' or state == 'dead' or state == 'expired' or state == 'cancelled'
end

-- Two shards for each function, by a random character of an id (the last two are not): if one is slow, the other still moves.
local function shard_of(fn, id)
  local hash = redis.sha1hex(fn)
  local first = tonumber(string.sub(hash, 1, 4), 16) % SHARDS
  if string.byte(id, -3) % 2 == 0 or SHARDS == 1 then return first end
  return (first + 1 + tonumber(string.sub(hash, 5, 8), 16) % (SHARDS - 1)) % SHARDS
end

-- How many may be in BullMQ or run, and starts a second (0: any number).
local function limits_of(fn)
  local width, rate = string.match(call('HGET', N.limits, fn) or '', '^(%d+):([%d.]+)$')
  return tonumber(width) or 16, tonumber(rate) or 0
end

local spaces, lanes = {}, {}

-- The window of a function's namespace: `taken` of its `width` are in BullMQ or run. Names without one share one.
local function space_of(fn)
  local name = string.match(fn, '^([^.]*)%.') or ''
  local space = spaces[name]
  if not space then
    local key, held = N.space .. name, N.held .. name
    local width = tonumber(call('HGET', N.limits, '*') or NAMESPACE_WINDOW)
    space = { key = key, held_key = held, width = width, taken = call('ZCARD', key), held = call('ZCARD', held) }
    spaces[name] = space
  end
  return space
end

-- How a function stands at this moment of the call: `taken` of its window's `width`, `waiting` in its room.
local function lane_of(fn)
  local lane = lanes[fn]
  if not lane then
    local width, rate = limits_of(fn)
    lane = { fn = fn, width = width, rate = rate, space = space_of(fn), entering = {} }
    lane.taken, lane.waiting = call('ZCARD', N.window .. fn), call('ZCARD', N.room .. fn)
    lanes[fn] = lane
  end
  return lane
end

local function enter_window(r, lane, now)
  mark(N.window .. r.fn, r.id, now)
  mark(lane.space.key, r.id, now)
  lane.taken, lane.space.taken = lane.taken + 1, lane.space.taken + 1
end

local function leave_window(r)
  local lane = lane_of(r.fn)
  mark(N.window .. r.fn, r.id, false)
  mark(lane.space.key, r.id, false)
  lane.taken, lane.space.taken = math.max(0, lane.taken - 1), math.max(0, lane.space.taken - 1)
end

local function leave_room(lane, count)
  lane.waiting = lane.waiting - count
  if lane.waiting <= 0 then call('SREM', N.rooms, lane.fn) end
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
  bump(N.stats, 'jobs', 1)
  return { shard_of(fn, first), first .. '-' .. total(N.stats, 'jobs') }
end

-- Set by finish.lua: a consumer that ends attempts may begin a function's next ones in the same write, which saves the
-- way through BullMQ while there is a backlog. { fn, consumer, lease, begun }, without `begun` when there is none left.
local taker = nil

-- What a consumer needs to run an attempt. `r` has all fields, as they are now.
local function describe_begun(r)
  local request = call('HMGET', N.request .. r.id, 'h', 'b', 'blob')
  return { r.id, r.f, r.n, r.fn, r.c, r.pol, r.org, request[1], request[2], request[3] }
end

-- Begins an attempt: written before a byte goes to a sandbox. `r` has all fields.
local function begin_attempt(r, consumer, lease, now)
  r.n, r.f = string.format('%d', r.n + 1), string.format('%d', r.f + 1)
  local attempt = string.format('{"number":%s,"fence":%s,"startedMs":%d,"consumer":"%s"}', r.n, r.f, now, consumer)
  call('HSET', N.record .. r.id, 's', 'running', 'n', r.n, 'f', r.f, 'cs', consumer, 'job', '', 'a' .. r.n, attempt)
  mark(N.leases, r.id, now + lease)
  return describe_begun(r)
end

-- Begins the first of `popped` for the taker, unless its time is over: that is begin.lua's to say.
local function try_take(popped, lane, now)
  local r = read(popped[1], ALL_FIELDS)
  if tonumber(r.exp) <= now then return end
  enter_window(r, lane, now)
  taker.begun = begin_attempt(r, taker.consumer, taker.lease, now)
  table.remove(popped, 1)
  table.remove(popped, 1)
end

-- Moves what the windows allow from the room into BullMQ.
local function release_lane(lane, now, jobs)
  local fn, space = lane.fn, lane.space
  local count = math.min(lane.width - lane.taken, space.width - space.taken, lane.waiting)
  if count > 0 and lane.rate > 0 then count = take_rate(fn, lane.rate, count, now) end
  if count <= 0 then return end
  local popped = call('ZPOPMIN', N.room .. fn, count)
  leave_room(lane, #popped / 2)
  if taker and taker.fn == fn and not taker.begun and popped[1] then try_take(popped, lane, now) end
  -- A few jobs rather than one, so that several consumers share them.
  local size = math.min(CHUNK, math.max(1, math.ceil(count / 4)))
  for first = 1, #popped, 2 * size do
    local job = new_job(popped[first], fn)
    for i = first, math.min(first + 2 * size - 2, #popped), 2 do
      local id = popped[i]
      call('HSET', N.record .. id, 'job', job[2])
      enter_window({ id = id, fn = fn }, lane, now)
      job[#job + 1] = id
    end
    jobs[#jobs + 1] = job
  end
end

-- Its namespace's window is all that holds it back: it is held, behind those that were before.
local function hold(lane)
  local space = lane.space
  if lane.waiting <= 0 or lane.taken >= lane.width or space.taken < space.width then return end
  local last = call('ZRANGE', space.held_key, -1, -1, 'WITHSCORES')
  space.held = space.held + call('ZADD', space.held_key, 'NX', (tonumber(last[2] or 0) or 0) + 1, lane.fn)
end

local function release(fn, now, jobs)
  local lane = lane_of(fn)
  local space = lane.space
  if space.held == 0 then release_lane(lane, now, jobs) end
  hold(lane)
  while space.held > 0 and space.taken < space.width do
    local next = call('ZPOPMIN', space.held_key)[1]
    space.held = space.held - 1
    if next then
      release_lane(lane_of(next), now, jobs)
      hold(lane_of(next))
    end
  end
  -- Those that were held have had their turn.
  if space.held == 0 then release_lane(lane, now, jobs) end
end

-- Whether an ordering key holds it back: somebody with the same one is ahead.
local function is_behind(r)
  return r.key and call('ZRANGE', N.line .. r.key, 0, 0)[1] ~= r.id
end

local function place_of(r)
  return r.pri * 70368744177664 + r.seq
end

local function enter_room(r, now, jobs)
  local lane = lane_of(r.fn)
  lane.waiting = lane.waiting + call('ZADD', N.room .. r.fn, place_of(r), r.id)
  call('SADD', N.rooms, r.fn)
  release(r.fn, now, jobs)
end

-- Those that were accepted in this call and did not go into BullMQ at once.
local function enter_rooms(now, jobs)
  local names = {}
  for fn, lane in pairs(lanes) do
    if #lane.entering > 0 then
      lane.waiting = lane.waiting + #lane.entering / 2
      send('ZADD', N.room .. fn, lane.entering)
      call('SADD', N.rooms, fn)
      lane.entering = {}
      names[#names + 1] = fn
    end
  end
  for _, fn in ipairs(names) do release(fn, now, jobs) end
end

local function make_ready(r, now, jobs)
  call('HSET', N.record .. r.id, 's', 'ready')
  if not is_behind(r) then enter_room(r, now, jobs) end
end

-- Takes it out of everything that makes it run; of a running one the window is free afterwards.
local function unschedule(r)
  if r.s == 'running' then
    mark(N.leases, r.id, false)
    leave_window(r)
  elseif r.s == 'ready' and r.job and r.job ~= '' then
    leave_window(r)
  elseif r.s == 'ready' then
    -- In its room, or behind others with its ordering key.
    local lane = lane_of(r.fn)
    if call('ZREM', N.room .. r.fn, r.id) == 1 then leave_room(lane, 1) end
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
  mark(N.expiry, r.id, r.exp + due - now)
  release(r.fn, now, jobs)
  return 'waiting'
end

local function wake(r, now, jobs)
  local expires = string.format('%d', r.exp + now - r.slp)
  call('ZREM', N.due, r.id)
  call('HDEL', N.record .. r.id, 'due', 'slp')
  call('HSET', N.record .. r.id, 'exp', expires)
  mark(N.expiry, r.id, expires)
  make_ready(r, now, jobs)
end

-- The one way to a final state. `fields` are written with it.
local function finalize(r, state, reason, now, jobs, fields)
  local record = N.record .. r.id
  unschedule(r)
  mark(N.expiry, r.id, false)
  if r.job and r.job ~= '' then call('HDEL', record, 'job') end
  if r.s == 'delayed' or r.s == 'retry_wait' or r.s == 'waiting' then call('HDEL', record, 'due', 'slp') end
  bump(N.stats, state, 1)
  bump(N.stats, 'bytes', -r.by)
  bump(N.unfinished, r.fn, -1)
  local kept = r.rms
  if state == 'dead' or state == 'expired' then
    kept = DEAD_KEPT_MS
    call('ZADD', N.dead, now, r.id)
  end
  if r.stn then end_steps(r, kept) end
  if r.ik then call('PEXPIRE', N.idempotency .. r.ik, IDEMPOTENCY_MS) end
  -- The last of a group to end wakes the one that waits for all of it. In another cell a pump tells it (end-member.lua).
  if r.grp and string.sub(r.grp, 1, 1) == '@' then
    call('SADD', N.groupEnds, string.sub(r.grp, 2) .. ' ' .. r.id)
  elseif r.grp then
    local follower = read(r.grp)
    if follower and call('HINCRBY', N.record .. r.grp, 'gn', -1) == 0 and follower.s == 'waiting' then
      wake(follower, now, jobs)
    end
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
  fields = { 's', state, 'end', now, 'why', reason, unpack(fields or {}) }
  local function add(name, value)
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  -- What finish.lua says again when its reply was lost.
  if taker and taker.begun then add('nx', taker.begun[1]) end
  -- Who is to be told is written with the end itself: it is told later, but never forgotten.
  local is_told = r.dst and string.find(r.dst, state == 'succeeded' and 's' or 'f', 1, true)
  if is_told and state ~= 'cancelled' then
    call('ZADD', N.outbox, now, r.id)
    add('out', 'pending')
    add('outn', 0)
  end
  call('HSET', record, unpack(fields))
  call('PEXPIRE', record, kept == DEAD_KEPT_MS and kept or KEPT_MS)
  call('PEXPIRE', N.request .. r.id, kept)
  call('PUBLISH', N.ended .. r.id, state)
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
  bump(N.stats, 'outcome:lost', 1)
  if lost >= LOST_MAX or count >= DIED_MAX then
    finalize(r, 'dead', 'poison_suspect', now, jobs, fields)
    return 'dead'
  end
  -- Not at once: whatever ended under it may take a moment to come back, and would be lost again. A runner that is only
  -- cut off takes work until it is given up, and a repeat that it got would look like a second one that died.
  local due = now + (died ~= '' and DIED_DELAY_MS or LOST_DELAY_MS * lost)
  unschedule(r)
  call('HSET', record, 's', 'retry_wait', 'due', string.format('%d', due), unpack(fields))
  call('ZADD', N.due, due, r.id)
  release(r.fn, now, jobs)
  return 'retry_wait'
end
