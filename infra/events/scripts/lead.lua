--[[
Makes one of many processes the scheduler, or keeps it.

Input:  ARGV[1] id of the process   ARGV[2] its present fence or ''   ARGV[3] lease, ms
Output: its fence token, or 0 when another one leads
Errors: none of its own.
]]
local held = redis.call('GET', N.scheduler)
if held and ARGV[2] ~= '' and held == ARGV[1] .. '|' .. ARGV[2] then
  redis.call('PEXPIRE', N.scheduler, ARGV[3])
  return tonumber(ARGV[2])
end
if held then return 0 end
local fence = redis.call('INCR', N.schedulerFence)
redis.call('SET', N.scheduler, ARGV[1] .. '|' .. fence, 'PX', ARGV[3])
return fence
