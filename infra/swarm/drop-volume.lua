--[[
  Forgets a volume if its name is still that of the one which is meant.

  Input:
    KEYS[1] volumes
    ARGV[1] name   ARGV[2] id
  Output:
    1 when it was forgotten, 0 when there is none of this name or it is another one
  Errors: none
]]
local current = redis.call('HGET', KEYS[1], ARGV[1])
if not current or cjson.decode(current).id ~= ARGV[2] then
  return 0
end
return redis.call('HDEL', KEYS[1], ARGV[1])
