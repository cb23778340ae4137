--[[
Tells the one that waits for a group that a member in another cell has ended, or was not accepted. Repeating it is harmless.

Input:  ARGV[1] id of the one that waits   ARGV[2] id of the member
Output: jobs as in queue.lua
Errors: none of its own.
]]
local jobs = {}
local r = read(ARGV[1])
if not r or call('HSETNX', N.record .. r.id, 'ge:' .. ARGV[2], 1) == 0 then return jobs end
if call('HINCRBY', N.record .. r.id, 'gn', -1) == 0 and r.s == 'waiting' then wake(r, clock(), jobs) end
return jobs
