--[[
Says how many cells a store was laid out for, and lays it out if nothing is in it yet.

Input:  KEYS[1] the number of cells   KEYS[2] epoch of the store   KEYS[3] names of functions   ARGV[1] wanted number
Output: the number that holds
Errors: none of its own. A store without the number has one cell.
]]
local held = redis.call('GET', KEYS[1])
if held then return tonumber(held) end
if redis.call('EXISTS', KEYS[2], KEYS[3]) > 0 then return 1 end
if ARGV[1] ~= '1' then redis.call('SET', KEYS[1], ARGV[1]) end
return tonumber(ARGV[1])
