--[[
  Replaces a service's record if it is still the one that the writer saw.

  Input:
    KEYS[1] services
    ARGV[1] name   ARGV[2] version the writer saw   ARGV[3] Service as JSON
  Output:
    1 when written
  Errors:
    0 when the stored version is another one, -1 when there is no such service; nothing is written.
]]
local current = redis.call('HGET', KEYS[1], ARGV[1])
if not current then
  return -1
end
if cjson.decode(current).version ~= tonumber(ARGV[2]) then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
