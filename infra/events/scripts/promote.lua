--[[
Invocations whose time has come: delayed ones, retries and those that slept become ready. Functions whose rate allows more are looked at.

Input:  ARGV[1] how many at most
Output: { count, ms until the next one is due or -1, job... }   jobs as in queue.lua
Errors: none of its own.
]]
local now = clock()
local jobs = {}
local ids = call('ZRANGEBYSCORE', N.due, '-inf', now, 'LIMIT', 0, ARGV[1])
for _, id in ipairs(ids) do
  call('ZREM', N.due, id)
  local r = read(id)
  if r and r.s == 'waiting' then
    wake(r, now, jobs)
  elseif r and (r.s == 'delayed' or r.s == 'retry_wait') then
    call('HDEL', N.record .. id, 'due')
    make_ready(r, now, jobs)
  end
end
for _, fn in ipairs(call('ZRANGEBYSCORE', N.throttled, '-inf', now, 'LIMIT', 0, ARGV[1])) do
  call('ZREM', N.throttled, fn)
  release(fn, now, jobs)
end
local wait = -1
for _, key in ipairs({ N.due, N.throttled }) do
  local first = call('ZRANGE', key, 0, 0, 'WITHSCORES')
  if first[2] and (wait < 0 or tonumber(first[2]) - now < wait) then wait = math.max(0, tonumber(first[2]) - now) end
end
return { #ids, wait, unpack(jobs) }
