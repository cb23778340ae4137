--[[
A gateway borrows idle slots for a short time, to send invocations straight to their runner.

Input:  KEYS[1] idle list   KEYS[2] wait list
        ARGV[1] slots at most   ARGV[2] life of the lease, ms   ARGV[3] prefix of lease keys   ARGV[4] prefix of alive keys
Output: tokens
Errors: none of its own.

The lease is written where its runner looks (a zset by expiry): a runner takes back what was not returned in time.
Nothing is lent while somebody waits.
]]
if redis.call('LLEN', KEYS[2]) > 0 then return {} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local tokens = {}
while #tokens < tonumber(ARGV[1]) do
  local token = redis.call('RPOP', KEYS[1])
  if not token then break end
  local runner, epoch = string.match(token, '^([^|]+)|([^|]+)|')
  if redis.call('GET', ARGV[4] .. runner) == epoch then
    redis.call('ZADD', ARGV[3] .. runner, now + tonumber(ARGV[2]), token)
    tokens[#tokens + 1] = token
  end
end
return tokens
