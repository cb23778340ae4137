--[[
Attempts whose lease has ended: their consumer died or was paused. Their outcome is lost; they run again or are dead.

Input:  ARGV[1] how many at most
Output: { count, job... }   jobs as in queue.lua
Errors: none of its own.
]]
local now = clock()
local jobs = {}
local ids = call('ZRANGEBYSCORE', N.leases, '-inf', now, 'LIMIT', 0, ARGV[1])
for _, id in ipairs(ids) do
  local r = read(id)
  if r and r.s == 'running' then
    local attempt = cjson.decode(call('HGET', N.record .. id, 'a' .. r.n) or '{}')
    attempt.outcome = 'lost'
    attempt.endedMs = now
    attempt.message = 'its lease ended: the consumer died or was paused'
    lose(r, '', cjson.encode(attempt), '', now, jobs)
  else
    mark(N.leases, id, false)
  end
end
return { #ids, unpack(jobs) }
