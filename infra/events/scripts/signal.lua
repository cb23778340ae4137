--[[
Gives an event to the invocations that wait for one of its name with matching fields. Those that are suspended go on. It is
kept for a while, for invocations that were accepted before it and begin to wait after it.

Input:  ARGV[1] name   ARGV[2] data, JSON   ARGV[3] those that have waited since this instant, ms, or '' for now
        ARGV[4] number of the event, or '' for a new one   ARGV[5] how many of them have been looked at and go on waiting
        ARGV[6] how many at most   ARGV[7] 1 if it is kept
Output: { instant, number, looked at in all or -1 when there are no more, { id... } it was given to, job... }   jobs as in queue.lua
Errors: none of its own.
]]
local now = clock()
local since = ARGV[3] ~= '' and tonumber(ARGV[3]) or now
local waiters = N.waiters .. ARGV[1]
local data = cjson.decode(ARGV[2])
local number = ARGV[4] ~= '' and ARGV[4] or tostring(call('HINCRBY', N.stats, 'signals', 1))
local jobs, given = {}, {}

if ARGV[4] == '' and ARGV[7] == '1' then keep_event(ARGV[1], number, ARGV[2], now) end

local passed = tonumber(ARGV[5])
local members = call('ZRANGEBYSCORE', waiters, '-inf', since, 'LIMIT', passed, ARGV[6])
for _, member in ipairs(members) do
  local id, step = string.match(member, '^(%S+) (.*)$')
  local r = read(id)
  local entry = r and call('HGET', N.steps .. id, step)
  if not entry or is_final(r.s) then
    call('ZREM', waiters, member)
  elseif matches(cjson.decode(entry).match, data) then
    local stored = describe_event(number, ARGV[2])
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
local is_over = #members < tonumber(ARGV[6])
return { since, number, is_over and -1 or passed, given, unpack(jobs) }
