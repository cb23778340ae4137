--[[
Hands one invocation to an idle slot, or queues it and asks for a sandbox.

Input:  KEYS[1] idle list       KEYS[2] wait list      KEYS[3] starting zset   KEYS[4] live zset   KEYS[5] demand list
        ARGV[1] envelope        ARGV[2] start-by, epoch ms                     ARGV[3] slots of one sandbox
        ARGV[4] sandboxes at most                      ARGV[5] waiting at most ARGV[6] id for a start order
        ARGV[7] start order, JSON                      ARGV[8] life of a start order, ms
        ARGV[9] expected service time, ms (0: unknown) ARGV[10] expected cold start, ms
        ARGV[11] prefix of inbox keys                  ARGV[12] prefix of alive keys
        ARGV[13] runners that the caller cannot reach, as '|a|b|' ('' for none)
Output: { 1, token }       pushed to the inbox of the runner in the token
        { 2, waiting }     queued behind waiting - 1 others, no start asked for
        { 3, waiting }     queued, and a start was asked for
        { 4, waiting }     refused: the queue is full, or so long that this call could not start in time
Errors: none of its own.

Only slots of runners that are alive with the same epoch count: others are dropped here, so a dead runner costs one
GET for each of its tokens and nothing else has to clean them. Slots of runners that this caller cannot reach stay: they
are good for others.

Wait or start: waiting for a busy slot takes about service * position / slots. If that is less than a cold start and
some sandbox is live, starting another would only cost memory. With as many sandboxes as there may be, a call whose
turn would come after its start-by time is refused at once: waiting would cost it and everybody behind it.
]]
local kept = {}
local found = false
while not found do
  local token = redis.call('RPOP', KEYS[1])
  if not token then break end
  local runner, epoch = string.match(token, '^([^|]+)|([^|]+)|')
  if redis.call('GET', ARGV[12] .. runner) == epoch then
    if ARGV[13] ~= '' and string.find(ARGV[13], '|' .. runner .. '|', 1, true) then
      kept[#kept + 1] = token
    else
      redis.call('RPUSH', ARGV[11] .. runner, token .. '\n' .. ARGV[1])
      found = token
    end
  end
end
for i = #kept, 1, -1 do redis.call('RPUSH', KEYS[1], kept[i]) end
if found then return { 1, found } end

local waiting = redis.call('LLEN', KEYS[2])
if waiting >= tonumber(ARGV[5]) then return { 4, waiting } end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[3], 0, now)
redis.call('ZREMRANGEBYSCORE', KEYS[4], 0, now)
local starting = redis.call('ZCARD', KEYS[3])
local live = redis.call('ZCARD', KEYS[4])
local slots = tonumber(ARGV[3])
local service = tonumber(ARGV[9])
local isFull = starting + live >= tonumber(ARGV[4])
local wait = 0
if live > 0 then wait = service * (waiting + 1) / (live * slots) end
if isFull and now + wait > tonumber(ARGV[2]) then return { 4, waiting } end

redis.call('RPUSH', KEYS[2], ARGV[2] .. '\n' .. ARGV[1])
waiting = waiting + 1
if isFull then return { 2, waiting } end
if starting * slots >= waiting then return { 2, waiting } end
if live > 0 and service > 0 and wait < tonumber(ARGV[10]) then return { 2, waiting } end
redis.call('ZADD', KEYS[3], now + tonumber(ARGV[8]), ARGV[6])
redis.call('RPUSH', KEYS[5], ARGV[7])
return { 3, waiting }
