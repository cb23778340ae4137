--[[
What an invocation's steps have stored, when an attempt of it looks for the first time. Sleeps and waits whose time is
over are settled here: what the function was told stays so.

Input:  ARGV[1] id   ARGV[2] fence token of the attempt
Output: { 'OK', now, step, entry, step, entry... }   entries as in steps.ts
Errors: { 'FENCED' }                                 it is not this attempt's any more
]]
local id = ARGV[1]
local r = read(id)
if not r or r.s ~= 'running' or r.f ~= ARGV[2] then return { 'FENCED' } end
local now = clock()
local steps, sleeping = N.steps .. id, N.sleeping .. id
if r.stn then
  for _, step in ipairs(call('ZRANGEBYSCORE', sleeping, '-inf', now)) do
    local event = cjson.decode(call('HGET', steps, step)).event
    if event then
      call('ZREM', N.waiters .. event, id .. ' ' .. step)
      call('HSET', steps, step, '{"k":"wait"}')
    else
      call('HSET', steps, step, '{"k":"sleep"}')
    end
    call('ZREM', sleeping, step)
  end
end
call('HDEL', N.record .. id, 'wk')
return { 'OK', now, unpack(call('HGETALL', steps)) }
