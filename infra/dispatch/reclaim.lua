--[[
A runner takes back leases that ran out. The caller gives each slot a new generation before it offers it again, so
a gateway that still uses the old token is refused.

Input:  KEYS[1] leases zset of this runner
Output: tokens whose lease ran out
Errors: none of its own.
]]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local tokens = redis.call('ZRANGEBYSCORE', KEYS[1], 0, now)
if #tokens > 0 then redis.call('ZREMRANGEBYSCORE', KEYS[1], 0, now) end
return tokens
