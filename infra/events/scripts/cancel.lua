--[[
Cancels an invocation. A running attempt is fenced off: its result will be refused, and its consumer is told to stop it.

Input:  ARGV[1] id
Output: { 'OK', job... }      cancelled now; jobs as in queue.lua
        { 'SAME', state }     it was final before: nothing has changed
Errors: { 'MISSING' }
]]
local r = read(ARGV[1])
if not r then return { 'MISSING' } end
if r.s == 'succeeded' or r.s == 'dead' or r.s == 'expired' or r.s == 'cancelled' then return { 'SAME', r.s } end
local now = clock()
local jobs = {}
if r.s == 'running' then
  end_attempt(r, 'cancelled', { endedMs = now })
  redis.call('HINCRBY', N.record .. r.id, 'f', 1)
  redis.call('PUBLISH', N.cancels, r.id)
end
finalize(r, 'cancelled', 'by_request', now, jobs)
return { 'OK', unpack(jobs) }
