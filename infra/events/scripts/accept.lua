--[[
Accepts an invocation: record, request, idempotency record and its place in the queue, in one write. The reply is the
moment from which the promise holds (under appendfsync always it comes after the fsync).

Input:  KEYS[1] epoch of the durable store
        ARGV[1] expected epoch   ARGV[2] id   ARGV[3] function name   ARGV[4] delay, ms   ARGV[5] maximum age, ms
        ARGV[6] priority (0 first)   ARGV[7] line (ordering key) or ''   ARGV[8] policy, JSON   ARGV[9] `window:rate`
        ARGV[10] origin, JSON   ARGV[11] head of the request, JSON   ARGV[12] body   ARGV[13] reference to the body, JSON or ''
        ARGV[14] idempotency scope or ''   ARGV[15] fingerprint   ARGV[16] unfinished of this function at most
        ARGV[17] unfinished bytes at most
Output: { 'OK', now, state, job... }       accepted; jobs as in queue.lua
        { 'SAME', id }                     another request with this idempotency key was accepted before: this one is it
        { 'EXISTS', state }                this very id was accepted before
Errors: { 'EPOCH' }                        this is not the store that promises were made in; nothing is written
        { 'OTHER', id }                    the idempotency key belongs to another request
        { 'FULL', what, count }            a limit is reached: `count` (of the function) or `bytes` (of all)
]]
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return { 'EPOCH' } end
local id, fn, line, scope = ARGV[2], ARGV[3], ARGV[7], ARGV[14]
local known = redis.call('HGET', N.record .. id, 's')
if known then return { 'EXISTS', known } end
if scope ~= '' then
  local held = redis.call('HMGET', N.idempotency .. scope, 'fp', 'id')
  if held[1] then
    if held[1] == ARGV[15] then return { 'SAME', held[2] } end
    return { 'OTHER', held[2] }
  end
end
local count = tonumber(redis.call('HGET', N.unfinished, fn) or 0)
if count >= tonumber(ARGV[16]) then return { 'FULL', 'count', count } end
local bytes = #ARGV[11] + #ARGV[12] + 512
local total = tonumber(redis.call('HGET', N.stats, 'bytes') or 0)
if total + bytes > tonumber(ARGV[17]) then return { 'FULL', 'bytes', total } end

local now = clock()
local seq = redis.call('HINCRBY', N.stats, 'seq', 1)
redis.call('HINCRBY', N.stats, 'accepted', 1)
local expires = now + tonumber(ARGV[5])
local r = { id = id, fn = fn, seq = seq, pri = ARGV[6], key = line ~= '' and line }
redis.call('HSET', N.record .. id, 's', 'ready', 'fn', fn, 'acc', now, 'exp', expires, 'seq', seq, 'pri', ARGV[6],
  'pol', ARGV[8], 'org', ARGV[10], 'by', bytes, 'n', 0, 'c', 0, 'l', 0, 'f', 0)
redis.call('HSET', N.request .. id, 'h', ARGV[11], 'b', ARGV[12])
if ARGV[13] ~= '' then redis.call('HSET', N.request .. id, 'blob', ARGV[13]) end
redis.call('ZADD', N.expiry, expires, id)
redis.call('HINCRBY', N.unfinished, fn, 1)
redis.call('HINCRBY', N.stats, 'bytes', bytes)
redis.call('HSET', N.limits, fn, ARGV[9])
if scope ~= '' then
  redis.call('HSET', N.record .. id, 'ik', scope)
  redis.call('HSET', N.idempotency .. scope, 'fp', ARGV[15], 'id', id, 'kind', 'async')
end
if line ~= '' then
  redis.call('HSET', N.record .. id, 'key', line)
  redis.call('ZADD', N.line .. line, seq, id)
end
local jobs = {}
local state = 'ready'
if tonumber(ARGV[4]) > 0 then
  state = 'delayed'
  redis.call('HSET', N.record .. id, 's', state, 'due', now + tonumber(ARGV[4]))
  redis.call('ZADD', N.due, now + tonumber(ARGV[4]), id)
else
  make_ready(r, now, jobs)
end
return { 'OK', now, state, unpack(jobs) }
