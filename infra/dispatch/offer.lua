--[[
A runner offers free slots of one deployment: waiting invocations are taken first, the rest of the slots become idle.

Input:  KEYS[1] idle list   KEYS[2] wait list   KEYS[3] live zset   KEYS[4] starting zset
        ARGV[1] member of the live zset ('' to leave it)   ARGV[2] how long it counts as live, ms
        ARGV[3] id of the start order that led here ('' if none)
        ARGV[4] prefix of given keys   ARGV[5] life of those, ms
        ARGV[6] gateways that the runner cannot reach, as '|a|b|' ('' for none)
        ARGV[7…] slot tokens
Output: envelopes, at most one for each token, in the order of the tokens; the tokens beyond them are idle now
Errors: none of its own.

Who was given what is noted beside it: this answer may be lost with the line, and the envelope's gateway believes it to be
queued (gateway/invoke/recovery.ts). The invocation's id and its gateway are the first in an envelope. What is of a gateway
out of reach stays where it is, for other runners; one that took it could only put it back.

Invocations whose start-by time has passed are dropped here: their gateway has answered already.
]]
-- Looking past more of them would take the store from others.
local KEPT = 100
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[1] ~= '' then redis.call('ZADD', KEYS[3], now + tonumber(ARGV[2]), ARGV[1]) end
if ARGV[3] ~= '' then redis.call('ZREM', KEYS[4], ARGV[3]) end
local taken = {}
local kept = {}
local exhausted = false
for i = 7, #ARGV do
  local envelope = false
  while not exhausted do
    local entry = redis.call('LPOP', KEYS[2])
    if not entry then
      exhausted = true
    else
      local at = string.find(entry, '\n', 1, true)
      if tonumber(string.sub(entry, 1, at - 1)) > now then
        local found = string.sub(entry, at + 1)
        local gateway = ARGV[6] ~= '' and #kept < KEPT and string.match(found, '"gw":"([^"]+)"')
        if gateway and string.find(ARGV[6], '|' .. gateway .. '|', 1, true) then
          kept[#kept + 1] = entry
        else
          envelope = found
          break
        end
      end
    end
  end
  if envelope then
    taken[#taken + 1] = envelope
    local id = string.match(envelope, '"id":"([^"]+)"')
    if id then redis.call('SET', ARGV[4] .. id, ARGV[i], 'PX', ARGV[5]) end
  else
    redis.call('RPUSH', KEYS[1], ARGV[i])
  end
end
for i = #kept, 1, -1 do redis.call('LPUSH', KEYS[2], kept[i]) end
return taken
