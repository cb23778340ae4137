--[[
  Takes or keeps the lead: one gateway reconciles services.

  Input:
    KEYS[1] leader   KEYS[2] count of terms
    ARGV[1] gateway  ARGV[2] life of the lead, ms   ARGV[3] the lead that the caller holds, '' for none
  Output:
    the lead (`gateway|term`) when the caller has it now, otherwise ''
  Errors:
    none of its own.

  A lead that ran out is never given back as it was: whoever lost it for a moment gets a new term, and what it still
  wanted to do under the old one is refused (push-order.lua).
]]
local current = redis.call('GET', KEYS[1])
if current then
  if current ~= ARGV[3] then
    return ''
  end
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return current
end
local lead = ARGV[1] .. '|' .. redis.call('INCR', KEYS[2])
redis.call('SET', KEYS[1], lead, 'PX', ARGV[2])
return lead
