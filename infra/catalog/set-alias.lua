--[[
  Moves an alias by compare-and-set, and creates the function's record with its first alias.

  Input:
    KEYS[1] functions            KEYS[2] functionRecord
    KEYS[3] functionDeployments  KEYS[4] functionAliases
    ARGV[1] function name        ARGV[2] alias name    ARGV[3] targets as JSON
    ARGV[4] expected version: '' for any, '0' for "must not exist yet"
    ARGV[5] now in ms            ARGV[6] changes channel
    ARGV[7..] ids of the target deployments
  Output:
    { 'OK', Alias as JSON }
  Errors:
    { 'CONFLICT', present version } and { 'MISSING', deployment id }; nothing is written.
]]
local version = 0
local current = redis.call('HGET', KEYS[4], ARGV[2])
if current then
  version = cjson.decode(current).version
end
if ARGV[4] ~= '' and tonumber(ARGV[4]) ~= version then
  return { 'CONFLICT', tostring(version) }
end
for i = 7, #ARGV do
  if not redis.call('ZSCORE', KEYS[3], ARGV[i]) then
    return { 'MISSING', ARGV[i] }
  end
end
-- Built by hand: cjson writes numbers with 14 digits and would turn an empty list into an object.
local alias = string.format(
  '{"name":%s,"targets":%s,"version":%d,"updatedMs":%s}',
  cjson.encode(ARGV[2]), ARGV[3], version + 1, ARGV[5]
)
redis.call('HSET', KEYS[4], ARGV[2], alias)
if redis.call('HSETNX', KEYS[2], 'createdMs', ARGV[5]) == 1 then
  redis.call('ZADD', KEYS[1], ARGV[5], ARGV[1])
end
redis.call('PUBLISH', ARGV[6], cjson.encode({ kind = 'alias', name = ARGV[1] }))
return { 'OK', alias }
