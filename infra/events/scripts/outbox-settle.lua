--[[
Writes what has become of a destination's try.

Input:  ARGV[1] id   ARGV[2] delivered | failed | pending (to be tried again)   ARGV[3] error or ''   ARGV[4] pause, ms
Output: 1 when it was written, 0 when there is no such record or nothing to tell any more
Errors: none of its own.
]]
local record = N.record .. ARGV[1]
if not call('ZSCORE', N.outbox, ARGV[1]) or call('EXISTS', record) == 0 then return 0 end
call('HSET', record, 'out', ARGV[2], 'oute', ARGV[3])
if ARGV[2] == 'pending' then
  call('ZADD', N.outbox, clock() + ARGV[4], ARGV[1])
else
  call('ZREM', N.outbox, ARGV[1])
end
return 1
