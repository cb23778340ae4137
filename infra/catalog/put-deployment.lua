--[[
  Writes an immutable deployment and prunes the function's oldest ones. A deployment that an alias names is never
  pruned, nor is the new one.

  Input:
    KEYS[1] deployment            KEYS[2] functionDeployments   KEYS[3] functionAliases
    ARGV[1] deployment id         ARGV[2] its JSON              ARGV[3] createdMs
    ARGV[4] deployments kept      ARGV[5] prefix of deployment keys (same hash slot)
  Output:
    { 'OK', pruned id... }
  Errors:
    { 'EXISTS' } when a different deployment has this id; writing the same one again is OK.
]]
local existing = redis.call('GET', KEYS[1])
if existing and existing ~= ARGV[2] then
  return { 'EXISTS' }
end
redis.call('SET', KEYS[1], ARGV[2])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])

local reply = { 'OK' }
local excess = redis.call('ZCARD', KEYS[2]) - tonumber(ARGV[4])
if excess <= 0 then
  return reply
end
local keep = { [ARGV[1]] = true }
for _, json in ipairs(redis.call('HVALS', KEYS[3])) do
  for _, target in ipairs(cjson.decode(json).targets) do
    keep[target.deployment] = true
  end
end
for _, id in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  if excess <= 0 then
    break
  end
  if not keep[id] then
    redis.call('DEL', ARGV[5] .. id)
    redis.call('ZREM', KEYS[2], id)
    reply[#reply + 1] = id
    excess = excess - 1
  end
end
return reply
