--[[
Gives an event to the invocations that wait for one of its name with matching fields. Those that are suspended go on.

Input:  ARGV[1] name   ARGV[2] data, JSON   ARGV[3] those that have waited since this instant, ms, or '' for now
        ARGV[4] how many of them have been looked at and go on waiting   ARGV[5] how many at most
Output: { instant, looked at in all or -1 when there are no more, { id... } it was given to, job... }   jobs as in queue.lua
Errors: none of its own.
]]
local now = clock()
local since = ARGV[3] ~= '' and tonumber(ARGV[3]) or now
local waiters = N.waiters .. ARGV[1]
local data = cjson.decode(ARGV[2])
local jobs, given = {}, {}

-- Every field of `wanted`, at any depth, is in `value` and equal. Nothing wanted fits everything.
local function matches(wanted, value)
  if type(wanted) ~= 'table' then return wanted == value end
  if next(wanted) == nil then return true end
  if type(value) ~= 'table' then return false end
  for name, each in pairs(wanted) do
    if not matches(each, value[name]) then return false end
  end
  return true
end

local passed = tonumber(ARGV[4])
local members = call('ZRANGEBYSCORE', waiters, '-inf', since, 'LIMIT', passed, ARGV[5])
for _, member in ipairs(members) do
  local id, step = string.match(member, '^(%S+) (.*)$')
  local r = read(id)
  local entry = r and call('HGET', N.steps .. id, step)
  if not entry or is_final(r.s) then
    call('ZREM', waiters, member)
  elseif matches(cjson.decode(entry).match, data) then
    local stored = '{"k":"wait","v":' .. ARGV[2] .. '}'
    call('HSET', N.steps .. id, step, stored)
    call('ZREM', waiters, member)
    call('ZREM', N.sleeping .. id, step)
    call('HINCRBY', N.record .. id, 'by', #stored)
    call('HINCRBY', N.record .. id, 'stb', #stored)
    call('HINCRBY', N.stats, 'bytes', #stored)
    if r.s == 'waiting' then
      wake(r, now, jobs)
    elseif r.s == 'running' then
      -- It has looked at its steps already: when it is to be suspended it looks again.
      call('HSET', N.record .. id, 'wk', 1)
    end
    given[#given + 1] = id
  else
    passed = passed + 1
  end
end
local is_over = #members < tonumber(ARGV[5])
return { since, is_over and -1 or passed, given, unpack(jobs) }
