--[[
  Writes a build's record. States only move forward: a build that ended is never written again.

  Input:
    KEYS[1] build
    ARGV[1] BuildRecord as JSON   ARGV[2] milliseconds it is kept
  Output:
    1 when written
  Errors:
    0 when the build has ended before; nothing is written.
]]
local current = redis.call('GET', KEYS[1])
if current then
  local state = cjson.decode(current).state
  if state ~= 'queued' and state ~= 'running' then
    return 0
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
