--[[
Events that invocations wait for: when one fits, and those that are kept for waits that begin later. It stands in front of
each script, behind queue.lua, with the constants SIGNALS_KEPT, SIGNALS_BYTES_KEPT and SIGNAL_KEPT_MS.

Input:  functions take the event's name, its number (no two have the same) and its data, JSON
Output: see each
]]
-- Every field of `wanted`, at any depth, is in `value` and equal. Nothing wanted fits everything.
local function matches(wanted, value)
  if type(wanted) ~= 'table' then return wanted == value end
  if next(wanted) == nil then return true end
  if type(value) ~= 'table' then return false end
  for name, each in pairs(wanted) do
    if not matches(each, value[name]) then return false end
  end
  return true
end

-- A wait that is over because the event has come.
local function describe_event(number, data)
  return '{"k":"wait","e":' .. number .. ',"v":' .. data .. '}'
end

-- The oldest make way.
local function keep_event(name, number, data, now)
  local kept, bytes = N.kept .. name, N.keptBytes .. name
  -- With zeros in front, so that those of one millisecond are in order.
  call('ZADD', kept, now, string.format('%015d ', number) .. data)
  local held = call('INCRBY', bytes, #data)
  while held > SIGNALS_BYTES_KEPT or call('ZCARD', kept) > SIGNALS_KEPT do
    local oldest = call('ZPOPMIN', kept)[1]
    if not oldest then break end
    held = call('DECRBY', bytes, #oldest - string.find(oldest, ' ', 1, true))
  end
  call('PEXPIRE', kept, SIGNAL_KEPT_MS)
  call('PEXPIRE', bytes, SIGNAL_KEPT_MS)
end

-- The first event that was sent since this invocation was accepted, fits, and was not given to it before, as a wait that
-- is over. Nil when there is none.
local function find_event(id, name, wanted, now)
  local kept = N.kept .. name
  if call('EXISTS', kept) == 0 then return nil end
  local since = math.max(tonumber(call('HGET', N.record .. id, 'acc')), now - SIGNAL_KEPT_MS)
  local given
  for _, member in ipairs(call('ZRANGEBYSCORE', kept, since, '+inf')) do
    local number, data = string.match(member, '^0*(%d+) (.*)$')
    if matches(wanted, cjson.decode(data)) then
      if not given then
        given = {}
        for _, entry in ipairs(call('HVALS', N.steps .. id)) do
          local known = string.match(entry, '^{"k":"wait","e":(%d+),')
          if known then given[known] = true end
        end
      end
      if not given[number] then return describe_event(number, data) end
    end
  end
  return nil
end
