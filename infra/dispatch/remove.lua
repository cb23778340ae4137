--[[
A sandbox has ended: whatever of it is still offered goes, and it is no longer live.

Input:  KEYS[1] idle list   KEYS[2] live zset   ARGV[1] member of the live zset   ARGV[2…] tokens
Output: how many slots were still idle
Errors: none of its own.
]]
redis.call('ZREM', KEYS[2], ARGV[1])
local removed = 0
for i = 2, #ARGV do removed = removed + redis.call('LREM', KEYS[1], 1, ARGV[i]) end
return removed
