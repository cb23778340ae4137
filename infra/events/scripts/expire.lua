--[[
Invocations past their maximum age that do not run are expired. One that runs is looked at again when it has ended.

Input:  ARGV[1] how many at most
Output: { count of those that expired, job... }   jobs as in queue.lua
Errors: none of its own.
]]
local now = clock()
local jobs = {}
local count = 0
for _, id in ipairs(redis.call('ZRANGEBYSCORE', N.expiry, '-inf', now, 'LIMIT', 0, ARGV[1])) do
  local r = read(id)
  if not r then
    mark(N.expiry, id, false)
  elseif r.s == 'running' then
    mark(N.expiry, id, now + 2000)
  else
    finalize(r, 'expired', 'max_age', now, jobs)
    count = count + 1
  end
end
return { count, unpack(jobs) }
