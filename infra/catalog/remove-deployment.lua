--[[
  Removes one deployment, for example one that failed its verification.

  Input:
    KEYS[1] deployment   KEYS[2] functionDeployments   KEYS[3] functionAliases
    ARGV[1] deployment id
  Output:
    { 'OK' } also when there was none.
  Errors:
    { 'ALIASED', alias name } when an alias names it; nothing is removed.
]]
local aliases = redis.call('HGETALL', KEYS[3])
for i = 1, #aliases, 2 do
  for _, target in ipairs(cjson.decode(aliases[i + 1]).targets) do
    if target.deployment == ARGV[1] then
      return { 'ALIASED', aliases[i] }
    end
  end
end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return { 'OK' }
