--[[
Stores the result of a step, or what it waits for, under the fence token of its attempt. The first to write wins.

Input:  ARGV[1] id   ARGV[2] fence token   ARGV[3] step   ARGV[4] entry, JSON without its last brace
        ARGV[5] how long it sleeps or waits, ms, or ''   ARGV[6] or until when, epoch ms, or ''   ARGV[7] event, or ''
        ARGV[8] unfinished bytes of all invocations at most
Output: { 'OK', now }
        { 'KNOWN', entry }          it was stored before, or is what it waits for: an event that was kept
Errors: { 'FENCED' }                it is not this attempt's any more
        { 'FULL', what, limit }     `count` or `bytes` of this invocation, or `memory` of all
]]
local id, step, entry = ARGV[1], ARGV[3], ARGV[4]
local r = read(id)
if not r or r.s ~= 'running' or r.f ~= ARGV[2] then return { 'FENCED' } end
local steps, record = N.steps .. id, N.record .. id
local known = call('HGET', steps, step)
if known then return { 'KNOWN', known } end
local now = clock()
local event = ARGV[7] ~= '' and find_event(id, ARGV[7], cjson.decode(entry .. '}').match, now)
local due
if ARGV[5] ~= '' then due = now + tonumber(ARGV[5]) end
if ARGV[6] ~= '' then due = tonumber(ARGV[6]) end
if due then entry = entry .. string.format(',"due":%d', due) end
entry = event or entry .. '}'
local bytes = #step + #entry
if tonumber(r.stn or 0) >= STEPS_MAX then return { 'FULL', 'count', STEPS_MAX } end
local total = call('HINCRBY', record, 'stb', bytes)
if total > STEPS_BYTES_MAX then
  call('HINCRBY', record, 'stb', -bytes)
  return { 'FULL', 'bytes', STEPS_BYTES_MAX }
end
local all = call('HINCRBY', N.stats, 'bytes', bytes)
if all > tonumber(ARGV[8]) then
  call('HINCRBY', record, 'stb', -bytes)
  call('HINCRBY', N.stats, 'bytes', -bytes)
  return { 'FULL', 'memory', ARGV[8] }
end
call('HSET', steps, step, entry)
call('HSET', record, 'by', string.format('%d', r.by + bytes), 'stn', string.format('%d', (r.stn or 0) + 1))
if event then return { 'KNOWN', event } end
if due then call('ZADD', N.sleeping .. id, due, step) end
if ARGV[7] ~= '' then call('ZADD', N.waiters .. ARGV[7], now, id .. ' ' .. step) end
return { 'OK', now }
