--[[
Runs the tick that waited for the end of the invocation before it (overlap policy queue-one).

Input:  KEYS[1] epoch of the durable store
        ARGV[1] expected epoch   ARGV[2] `id|fence` of the scheduler   ARGV[3] schedule   ARGV[4] its version
        ARGV[5] the planned instant that waits   ARGV[6...] the invocation, as ARGV[2...] of accept.lua
Output: as tick.lua: OK or EXISTS when it was fired, { 'WAITING' } while the last one has not ended
Errors: { 'EPOCH' } · { 'FENCED' } · { 'STALE' } nothing waits any more · { 'FULL', what, count }
]]
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return { 'EPOCH' } end
if redis.call('GET', N.scheduler) ~= ARGV[2] then return { 'FENCED' } end
local state = N.schedule .. ARGV[3]
local held = redis.call('HMGET', state, 'version', 'pending', 'inv')
if held[1] ~= ARGV[4] or held[2] ~= ARGV[5] then
  if not held[2] then redis.call('SREM', N.pendingTicks, ARGV[3]) end
  return { 'STALE' }
end
local last = held[3] and redis.call('HGET', N.record .. held[3], 's')
if last and not is_final(last) then
  return { 'WAITING' }
end
local jobs = {}
local now = clock()
local reply = accept_event(read_event(6), now, jobs)
if reply[1] == 'FULL' then return reply end
enter_rooms(now, jobs)
redis.call('HINCRBY', state, 'fired', 1)
redis.call('HSET', state, 'inv', ARGV[6])
redis.call('HDEL', state, 'pending')
redis.call('SREM', N.pendingTicks, ARGV[3])
for _, job in ipairs(jobs) do reply[#reply + 1] = job end
return reply
