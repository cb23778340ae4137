--[[
Asks for one more sandbox when some are wanted and none are on their way: for queues that wait longer than expected
(KEYS as in dispatch.lua) and for a minimum of sandboxes.

Sandboxes of runners that are gone, or came back with another epoch, do not count: they are taken off here, and not in
dispatch.lua, because only who waits needs to know.

Input:  KEYS[1] wait list   KEYS[2] starting zset   KEYS[3] live zset   KEYS[4] demand list
        ARGV[1] slots of one sandbox   ARGV[2] sandboxes at most   ARGV[3] sandboxes at least
        ARGV[4] id for a start order   ARGV[5] start order, JSON; '' for one that its asker carries out
        ARGV[6] life of a start order, ms   ARGV[7] prefix of alive keys
Output: 1 when a start was asked for, else 0
Errors: none of its own.
]]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[2], 0, now)
redis.call('ZREMRANGEBYSCORE', KEYS[3], 0, now)
for _, member in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
  local runner, epoch = string.match(member, '^([^|]+)|([^|]+)|')
  if redis.call('GET', ARGV[7] .. runner) ~= epoch then redis.call('ZREM', KEYS[3], member) end
end
local starting = redis.call('ZCARD', KEYS[2])
local live = redis.call('ZCARD', KEYS[3])
local waiting = redis.call('LLEN', KEYS[1])
if starting + live >= tonumber(ARGV[2]) then return 0 end
if starting + live >= tonumber(ARGV[3]) and starting * tonumber(ARGV[1]) >= waiting then return 0 end
redis.call('ZADD', KEYS[2], now + tonumber(ARGV[6]), ARGV[4])
if ARGV[5] ~= '' then redis.call('RPUSH', KEYS[4], ARGV[5]) end
return 1
