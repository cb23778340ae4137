--[[
Hands invocations of one deployment to idle slots, or queues them and asks for sandboxes; each in turn, as if alone.

Input:  KEYS[1] idle list       KEYS[2] wait list      KEYS[3] starting zset   KEYS[4] live zset   KEYS[5] demand list
        ARGV[1] deployment      ARGV[2] id for start orders (further ones of this call get a number after it)
        ARGV[3] slots of one sandbox                   ARGV[4] sandboxes at most
        ARGV[5] waiting at most                        ARGV[6] life of a start order, ms
        ARGV[7] expected service time, ms (0: unknown) ARGV[8] expected cold start, ms
        ARGV[9] prefix of inbox keys                   ARGV[10] prefix of alive keys
        ARGV[11] runners that the caller cannot reach, as '|a|b|' ('' for none)
        ARGV[12…] for each invocation: start-by, epoch ms, and its envelope
Output: for each invocation two values, one after the other:
        1, token       pushed to the inbox of the runner in the token
        2, waiting     queued behind waiting - 1 others, no start asked for
        3, waiting     queued, and a start was asked for
        4, waiting     refused: the queue is full, or so long that this call could not start in time
Errors: none of its own.

Only slots of runners that are alive with the same epoch count: others are dropped here, so a dead runner costs one
GET for each of its tokens and nothing else has to clean them. Slots of runners that this caller cannot reach stay: they
are good for others.

Wait or start: waiting for a busy slot takes about service * position / slots. If that is less than a cold start and
some sandbox is live, starting another would only cost memory. With as many sandboxes as there may be, a call whose
turn would come after its start-by time is refused at once: waiting would cost it and everybody behind it.
]]
local SLOTS = tonumber(ARGV[3])
local SERVICE = tonumber(ARGV[7])
local epochs = {}
local orders = 0
local starting, live, now

local function isAlive(runner, epoch)
  if epochs[runner] == nil then epochs[runner] = redis.call('GET', ARGV[10] .. runner) end
  return epochs[runner] == epoch
end

local function takeSlot()
  local kept = {}
  local found = false
  while not found do
    local token = redis.call('RPOP', KEYS[1])
    if not token then break end
    local runner, epoch = string.match(token, '^([^|]+)|([^|]+)|')
    if isAlive(runner, epoch) then
      if ARGV[11] ~= '' and string.find(ARGV[11], '|' .. runner .. '|', 1, true) then
        kept[#kept + 1] = token
      else
        found = { token, runner }
      end
    end
  end
  for i = #kept, 1, -1 do redis.call('RPUSH', KEYS[1], kept[i]) end
  return found
end

local function look()
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
  redis.call('ZREMRANGEBYSCORE', KEYS[3], 0, now)
  redis.call('ZREMRANGEBYSCORE', KEYS[4], 0, now)
  starting = redis.call('ZCARD', KEYS[3])
  live = redis.call('ZCARD', KEYS[4])
end

local function order()
  orders = orders + 1
  local id = ARGV[2]
  if orders > 1 then id = id .. orders end
  redis.call('ZADD', KEYS[3], now + tonumber(ARGV[6]), id)
  redis.call('RPUSH', KEYS[5], cjson.encode({ id = id, dep = ARGV[1] }))
  starting = starting + 1
end

local function queue(startBy, envelope)
  local waiting = redis.call('LLEN', KEYS[2])
  if waiting >= tonumber(ARGV[5]) then return 4, waiting end
  if not now then look() end
  local isFull = starting + live >= tonumber(ARGV[4])
  local wait = 0
  if live > 0 then wait = SERVICE * (waiting + 1) / (live * SLOTS) end
  if isFull and now + wait > tonumber(startBy) then return 4, waiting end

  redis.call('RPUSH', KEYS[2], startBy .. '\n' .. envelope)
  waiting = waiting + 1
  if isFull then return 2, waiting end
  if starting * SLOTS >= waiting then return 2, waiting end
  if live > 0 and SERVICE > 0 and wait < tonumber(ARGV[8]) then return 2, waiting end
  order()
  return 3, waiting
end

local results = {}
for i = 12, #ARGV, 2 do
  local slot = takeSlot()
  local kind, value = 1, nil
  if slot then
    value = slot[1]
    redis.call('RPUSH', ARGV[9] .. slot[2], value .. '\n' .. ARGV[i + 1])
  else
    kind, value = queue(ARGV[i], ARGV[i + 1])
  end
  results[#results + 1] = kind
  results[#results + 1] = value
end
return results
