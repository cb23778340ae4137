--[[
How an invocation is accepted, for accept.lua and those that fire ticks. It stands in front of each script, behind
queue.lua, with the constant GROUP_MS.

Input:  functions take `a`, an event as read_event reads it from ARGV, `now` in ms of this Redis, and the list `jobs`
Output: what accept.lua says of the event; `jobs` as in queue.lua
]]
-- What the newest deployment of a function says of its window and rate.
local function set_limits(fn, limits)
  local lane = lane_of(fn)
  local width, rate = string.match(limits, '^(%d+):([%d.]+)$')
  width, rate = tonumber(width), tonumber(rate)
  if lane.is_known and lane.width == width and lane.rate == rate then return end
  if call('HGET', N.limits, fn) ~= limits then call('HSET', N.limits, fn, limits) end
  lane.width, lane.rate, lane.is_known = width, rate, true
end

-- Writes a new invocation. `a` has the fields of accept.lua's input. Returns what accept.lua says of it. After the last one
-- of a call comes enter_rooms.
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
  local is_near = a.group ~= '' and string.sub(a.group, 1, 1) ~= '@'
  if is_near and call('HGET', N.record .. a.group, 's') ~= 'waiting' then return { 'ALONE' } end
  local count, held = total(N.unfinished, a.fn), total(N.stats, 'bytes')
  local bytes = #a.head + #a.body + 512
  if count >= tonumber(a.count_max) then return { 'FULL', 'count', count } end
  if held + bytes > tonumber(a.bytes_max) then return { 'FULL', 'bytes', held } end
  bump(N.unfinished, a.fn, 1)
  bump(N.stats, 'bytes', bytes)
  bump(N.stats, 'seq', 1)
  local seq = total(N.stats, 'seq')
  local expires = now + a.age
  local delay = tonumber(a.delay)
  local state = a.waits ~= '' and 'waiting' or delay > 0 and 'delayed' or 'ready'
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
  set_limits(a.fn, a.limits)
  if a.blob ~= '' then
    call('HSET', N.request .. a.id, 'h', a.head, 'b', a.body, 'blob', a.blob)
  else
    call('HSET', N.request .. a.id, 'h', a.head, 'b', a.body)
  end
  mark(N.expiry, a.id, expires)
  if a.group ~= '' then
    add('grp', a.group)
    if is_near then call('HINCRBY', N.record .. a.group, 'gn', 1) end
  end
  if state == 'waiting' then
    -- It waits for others, however long they take within their own ages, and does not age meanwhile.
    add('slp', now)
    add('gn', string.format('%d', a.waits - 1))
    mark(N.expiry, a.id, expires + GROUP_MS)
    call('HSET', record, unpack(fields))
    return { 'OK', now, state }
  end
  if state == 'delayed' then
    add('due', string.format('%d', now + delay))
    call('ZADD', N.due, now + delay, a.id)
    call('HSET', record, unpack(fields))
    return { 'OK', now, state }
  end
  local lane = lane_of(a.fn)
  local space = lane.space
  local is_free = lane.taken < lane.width and space.taken < space.width and lane.rate == 0
  local is_first = lane.waiting == 0 and #lane.entering == 0 and space.held == 0
  local is_behind_others = is_behind(r)
  if is_free and is_first and not is_behind_others then
    -- The usual case: nobody waits, and it goes into BullMQ without having been in the room.
    local job = new_job(a.id, a.fn)
    add('job', job[2])
    enter_window(r, lane, now)
    job[3] = a.id
    jobs[#jobs + 1] = job
  elseif not is_behind_others then
    lane.entering[#lane.entering + 1] = place_of(r)
    lane.entering[#lane.entering + 1] = a.id
  end
  call('HSET', record, unpack(fields))
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
