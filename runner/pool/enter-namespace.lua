--[[
Takes a place for one sandbox of a namespace, if there is one. Places whose runner is gone run out by themselves.

Input:  KEYS[1] places zset   ARGV[1] places at most   ARGV[2] id of the place   ARGV[3] life of a place, ms
Output: 1 when the place is taken, 0 when there is none
Errors: none of its own.
]]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], 0, now)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[3]), ARGV[2])
return 1
