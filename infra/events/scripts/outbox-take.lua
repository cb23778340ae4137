--[[
Takes ends that a destination is to be told. Each is the caller's for a while; if it dies, another one takes it.

Input:  ARGV[1] how many at most   ARGV[2] how long they are the caller's, ms
Output: ids
Errors: none of its own.
]]
local now = clock()
local ids = call('ZRANGEBYSCORE', N.outbox, '-inf', now, 'LIMIT', 0, ARGV[1])
for _, id in ipairs(ids) do
  -- Tries are counted before they are made: one that kills its teller ends, too.
  if call('EXISTS', N.record .. id) == 1 then
    call('HINCRBY', N.record .. id, 'outn', 1)
    call('ZADD', N.outbox, now + ARGV[2], id)
  else
    call('ZREM', N.outbox, id)
  end
end
return ids
