--[[
Writes a schedule. Its version grows, so that ticks that are being fired for the one before are refused.

Input:  ARGV[1] name   ARGV[2] definition, JSON   ARGV[3] next planned instant, ms, or '' for none   ARGV[4] schedules at most
        ARGV[5] now, ms: ticks up to here are not fired any more   ARGV[6] version it had in another cell, or 0
Output: the new version
Errors: 0 when there are as many schedules as there may be
]]
local is_new = redis.call('HEXISTS', N.schedules, ARGV[1]) == 0
if is_new and redis.call('HLEN', N.schedules) >= tonumber(ARGV[4]) then return 0 end
local state = N.schedule .. ARGV[1]
redis.call('HSETNX', state, 'version', ARGV[6])
local version = redis.call('HINCRBY', state, 'version', 1)
redis.call('HSET', N.schedules, ARGV[1], ARGV[2])
-- What runs now belongs to the schedule still: an edit must not make it overlap itself.
redis.call('HSET', state, 'last', ARGV[5])
redis.call('HDEL', state, 'pending')
redis.call('SREM', N.pendingTicks, ARGV[1])
if ARGV[3] == '' then
  redis.call('ZREM', N.nextTicks, ARGV[1])
else
  redis.call('ZADD', N.nextTicks, ARGV[3], ARGV[1])
end
return version
