--[[
A gateway gives leased slots back. Those whose lease has run out already belong to the runner again and are left alone.

Input:  KEYS[1] idle list   KEYS[2] wait list
        ARGV[1] prefix of lease keys   ARGV[2] prefix of inbox keys
        ARGV[3] prefix of given keys   ARGV[4] life of those, ms (see offer.lua)   ARGV[5…] tokens
Output: how many were given back
Errors: none of its own.
]]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local count = 0
for i = 5, #ARGV do
  local token = ARGV[i]
  local runner = string.match(token, '^([^|]+)|')
  if redis.call('ZREM', ARGV[1] .. runner, token) == 1 then
    count = count + 1
    local served = false
    while not served do
      local entry = redis.call('LPOP', KEYS[2])
      if not entry then break end
      local at = string.find(entry, '\n', 1, true)
      if tonumber(string.sub(entry, 1, at - 1)) > now then
        local envelope = string.sub(entry, at + 1)
        redis.call('RPUSH', ARGV[2] .. runner, token .. '\n' .. envelope)
        local id = string.match(envelope, '"id":"([^"]+)"')
        if id then redis.call('SET', ARGV[3] .. id, token, 'PX', ARGV[4]) end
        served = true
      end
    end
    if not served then redis.call('RPUSH', KEYS[1], token) end
  end
end
return count
