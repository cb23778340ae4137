--[[
  Gives an order to one runner, if the giver still has the lead.

  Input:
    KEYS[1] leader   KEYS[2] the runner's orders   KEYS[3] pending tasks
    ARGV[1] lead     ARGV[2] order, JSON           ARGV[3] task ('' for none)   ARGV[4] PendingTask, JSON
  Output:
    1 when given, 0 when the lead is somebody else's: nothing has changed
  Errors:
    none of its own.
]]
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('RPUSH', KEYS[2], ARGV[2])
redis.call('EXPIRE', KEYS[2], 60)
if ARGV[3] ~= '' then
  redis.call('HSET', KEYS[3], ARGV[3], ARGV[4])
end
return 1
