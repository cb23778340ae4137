--[[
Fires one tick of a schedule, or decides that it is not fired: moves the last planned instant forward and accepts the
invocation in one write, so that a tick is never fired twice and never forgotten.

Input:  KEYS[1] epoch of the durable store
        ARGV[1] expected epoch   ARGV[2] `id|fence` of the scheduler   ARGV[3] schedule   ARGV[4] its version
        ARGV[5] planned instant, ms   ARGV[6] the instant after it, ms, or '' when there is none
        ARGV[7] what to do: fire, or miss (count it as missed)   ARGV[8] overlap policy
        ARGV[9] how many ticks before it were missed   ARGV[10...] the invocation, as ARGV[2...] of accept.lua
Output: { 'OK', now, state, job... }        fired
        { 'EXISTS', state }                 it had been fired before
        { 'MISSED' } · { 'OVERLAP' } · { 'PENDING' }   not fired: as asked, left out, or to be run once the last one has ended
Errors: { 'EPOCH' } · { 'FENCED' } somebody else is the scheduler · { 'STALE' } another version, or not after the last one
        { 'FULL', what, count }             not accepted, nothing has moved
]]
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return { 'EPOCH' } end
if redis.call('GET', N.scheduler) ~= ARGV[2] then return { 'FENCED' } end
local name = ARGV[3]
local state = N.schedule .. name
local held = redis.call('HMGET', state, 'version', 'last', 'inv')
local planned = tonumber(ARGV[5])
if held[1] ~= ARGV[4] or planned <= tonumber(held[2] or 0) then return { 'STALE' } end

local function advance(counter)
  redis.call('HSET', state, 'last', ARGV[5])
  if ARGV[9] ~= '0' then redis.call('HINCRBY', state, 'missed', ARGV[9]) end
  redis.call('HINCRBY', state, counter, 1)
  if ARGV[6] ~= '' then
    redis.call('ZADD', N.nextTicks, 'XX', ARGV[6], name)
  else
    redis.call('ZREM', N.nextTicks, name)
  end
end

if ARGV[7] == 'miss' then
  advance('missed')
  return { 'MISSED' }
end
if ARGV[8] ~= 'allow' and held[3] then
  local last = redis.call('HGET', N.record .. held[3], 's')
  if last and not is_final(last) then
    if ARGV[8] == 'queue-one' then
      -- A newer tick takes the place of one that waits: it stands for all since then.
      if redis.call('HEXISTS', state, 'pending') == 1 then redis.call('HINCRBY', state, 'skipped', 1) end
      redis.call('HSET', state, 'pending', ARGV[5])
      redis.call('SADD', N.pendingTicks, name)
      advance('queued')
      return { 'PENDING' }
    end
    advance('skipped')
    return { 'OVERLAP' }
  end
end
local jobs = {}
local now = clock()
local reply = accept_event(read_event(10), now, jobs)
if reply[1] == 'FULL' then return reply end
enter_rooms(now, jobs)
advance('fired')
redis.call('HSET', state, 'inv', ARGV[10])
redis.call('HDEL', state, 'pending')
redis.call('SREM', N.pendingTicks, name)
for _, job in ipairs(jobs) do reply[#reply + 1] = job end
return reply
