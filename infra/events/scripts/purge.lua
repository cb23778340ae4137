--[[
Removes dead and expired invocations for good, by id.

Input:  ARGV[1...] ids
Output: how many were removed
Errors: none of its own. Those that are not dead or expired are left alone.
]]
local count = 0
for _, id in ipairs(ARGV) do
  local state = redis.call('HGET', N.record .. id, 's')
  if not state then
    redis.call('ZREM', N.dead, id)
  elseif state == 'dead' or state == 'expired' then
    redis.call('DEL', N.record .. id, N.request .. id, N.result .. id, N.steps .. id)
    redis.call('ZREM', N.dead, id)
    redis.call('ZREM', N.outbox, id)
    redis.call('HINCRBY', N.stats, 'purged', 1)
    count = count + 1
  end
end
return count
