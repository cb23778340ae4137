--[[
Writes that the invocations of one call have in common: gathered while its script runs, and made once at its end. It
stands in front of queue.lua, and infra/events/scripts.ts puts `flush` behind every script.

Input:  `mark` and `bump` say what is to be written; `total` and `send` take keys as they are
Output: `flush` writes all of it

Invariant: what is gathered here is read here alone, through `total` and the counts of queue.lua's lanes, until the
call has ended. The last word about a member of a sorted set holds.
]]
local call = redis.call

local sets, sums, bases = {}, {}, {}

-- A member of a sorted set gets this score; false: it leaves the set.
local function mark(key, member, score)
  local members = sets[key]
  if not members then
    members = {}
    sets[key] = members
  end
  members[member] = score
end

local function is_marked(key, member)
  return sets[key] ~= nil and sets[key][member] ~= nil
end

-- Adds to a number in a hash.
local function bump(key, field, by)
  local fields = sums[key]
  if not fields then
    fields = {}
    sums[key] = fields
  end
  fields[field] = (fields[field] or 0) + by
end

-- The number as it will be.
local function total(key, field)
  local name = key .. '\0' .. field
  local base = bases[name]
  if not base then
    base = tonumber(call('HGET', key, field) or 0)
    bases[name] = base
  end
  return base + (sums[key] and sums[key][field] or 0)
end

-- What one call of Redis takes as arguments, and Lua as values.
local ARGUMENTS_MAX = 2000

local function send(command, key, arguments)
  for first = 1, #arguments, ARGUMENTS_MAX do
    call(command, key, unpack(arguments, first, math.min(first + ARGUMENTS_MAX - 1, #arguments)))
  end
end

local function flush()
  for key, fields in pairs(sums) do
    for field, by in pairs(fields) do
      local is_over = by ~= 0 and call('HINCRBY', key, field, string.format('%d', by)) <= 0
      if is_over and key == N.unfinished then call('HDEL', key, field) end
    end
  end
  for key, members in pairs(sets) do
    local gone, there = {}, {}
    for member, score in pairs(members) do
      if score then
        there[#there + 1] = score
        there[#there + 1] = member
      else
        gone[#gone + 1] = member
      end
    end
    send('ZREM', key, gone)
    send('ZADD', key, there)
  end
end
