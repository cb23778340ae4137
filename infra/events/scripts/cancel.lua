--[[
Cancels an invocation. A running attempt is fenced off: its result will be refused, and its consumer is told to stop it.

Input:  ARGV[1] id
Output: { 'OK', job... }      cancelled now; jobs as in queue.lua
        { 'SAME', state }     it was final before: nothing has changed
Errors: { 'MISSING' }
]]
local r = read(ARGV[1])
if not r then return { 'MISSING' } end
if is_final(r.s) then return { 'SAME', r.s } end
local now = clock()
local jobs = {}
local fields = {}
if r.s == 'running' then
  local attempt = cjson.decode(call('HGET', N.record .. r.id, 'a' .. r.n) or '{}')
  attempt.outcome = 'cancelled'
  attempt.endedMs = now
  fields = { 'a' .. r.n, cjson.encode(attempt), 'f', string.format('%d', r.f + 1) }
  call('HINCRBY', N.stats, 'outcome:cancelled', 1)
  call('PUBLISH', N.cancels, r.id)
end
finalize(r, 'cancelled', 'by_request', now, jobs, fields)
return { 'OK', unpack(jobs) }
