--[[
Takes slots back from the idle list, so that their sandbox can end.

Input:  KEYS[1] idle list   KEYS[2] live zset   ARGV[1] member of the live zset   ARGV[2] how many tokens there must be
        ARGV[3…] tokens
Output: 1 when every token was idle: all are gone, and the sandbox is no longer live
        0 when one was not (leased, or on its way in an inbox): nothing has changed
Errors: none of its own.
]]
local idle = redis.call('LRANGE', KEYS[1], 0, -1)
local present = {}
for _, token in ipairs(idle) do present[token] = true end
for i = 3, #ARGV do
  if not present[ARGV[i]] then return 0 end
end
for i = 3, #ARGV do redis.call('LREM', KEYS[1], 1, ARGV[i]) end
redis.call('ZREM', KEYS[2], ARGV[1])
return 1
