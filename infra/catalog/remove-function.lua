--[[
  Removes a function with its aliases and deployments.

  Input:
    KEYS[1] functions            KEYS[2] functionRecord
    KEYS[3] functionDeployments  KEYS[4] functionAliases
    ARGV[1] function name        ARGV[2] prefix of deployment keys (same hash slot)   ARGV[3] changes channel
  Output:
    { 'OK', removed deployment id... }
  Errors:
    { 'MISSING' } when there is no such function, nor deployments of one that never went live.
]]
local deployments = redis.call('ZRANGE', KEYS[3], 0, -1)
if redis.call('EXISTS', KEYS[2]) == 0 and #deployments == 0 then
  return { 'MISSING' }
end
local reply = { 'OK' }
for _, id in ipairs(deployments) do
  redis.call('DEL', ARGV[2] .. id)
  reply[#reply + 1] = id
end
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4])
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('PUBLISH', ARGV[3], cjson.encode({ kind = 'function', name = ARGV[1] }))
return reply
