--[[
A consumer goes on with what it runs.

Input:  ARGV[1] lease, ms   ARGV[2...] pairs of id and fence
Output: ids that are not the caller's any more: it must stop them
Errors: none of its own.
]]
local now = clock()
local gone = {}
for i = 2, #ARGV, 2 do
  local values = redis.call('HMGET', N.record .. ARGV[i], 's', 'f')
  if values[1] == 'running' and values[2] == ARGV[i + 1] then
    redis.call('ZADD', N.leases, 'XX', now + tonumber(ARGV[1]), ARGV[i])
  else
    gone[#gone + 1] = ARGV[i]
  end
end
return gone
