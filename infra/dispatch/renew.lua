--[[
A gateway goes on using leased slots.

Input:  KEYS[1] wait list   ARGV[1] life, ms   ARGV[2] prefix of lease keys   ARGV[3…] tokens
Output: for each token 1 when it is renewed, 0 when it must not be used any more (return it once its call has ended)
Errors: none of its own.

Nothing is renewed while others wait: they get the slots as they come back.
]]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local isContended = redis.call('LLEN', KEYS[1]) > 0
local renewed = {}
for i = 3, #ARGV do
  local key = ARGV[2] .. string.match(ARGV[i], '^([^|]+)|')
  local score = redis.call('ZSCORE', key, ARGV[i])
  if isContended or not score or tonumber(score) < now then
    renewed[#renewed + 1] = 0
  else
    redis.call('ZADD', key, 'XX', now + tonumber(ARGV[1]), ARGV[i])
    renewed[#renewed + 1] = 1
  end
end
return renewed
