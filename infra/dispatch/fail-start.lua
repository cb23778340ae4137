--[[
A start failed: takes its order off, and when no sandbox of the deployment is live or on its way, everything that waits.

Input:  KEYS[1] wait list   KEYS[2] starting zset   KEYS[3] live zset   ARGV[1] id of the start order
Output: envelopes that will not be served, to be answered with the failure
Errors: none of its own.
]]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], 0, now)
redis.call('ZREMRANGEBYSCORE', KEYS[3], 0, now)
if redis.call('ZCARD', KEYS[2]) > 0 or redis.call('ZCARD', KEYS[3]) > 0 then return {} end
local entries = redis.call('LRANGE', KEYS[1], 0, -1)
redis.call('DEL', KEYS[1])
local envelopes = {}
for _, entry in ipairs(entries) do
  local at = string.find(entry, '\n', 1, true)
  if tonumber(string.sub(entry, 1, at - 1)) > now then envelopes[#envelopes + 1] = string.sub(entry, at + 1) end
end
return envelopes
