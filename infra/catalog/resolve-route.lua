--[[
  Reads an alias together with its deployments, as of one moment.

  Input:
    KEYS[1] functionRecord   KEYS[2] functionAliases
    ARGV[1] alias name       ARGV[2] prefix of deployment keys (same hash slot)
  Output:
    { Alias as JSON, Deployment as JSON (one for each target, in order) }
  Errors:
    {} when there is no such function or alias.
]]
if redis.call('EXISTS', KEYS[1]) == 0 then
  return {}
end
local alias = redis.call('HGET', KEYS[2], ARGV[1])
if not alias then
  return {}
end
local reply = { alias }
for _, target in ipairs(cjson.decode(alias).targets) do
  reply[#reply + 1] = redis.call('GET', ARGV[2] .. target.deployment)
end
return reply
