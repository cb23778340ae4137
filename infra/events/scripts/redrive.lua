--[[
Gives a dead or expired invocation a new series of attempts. Its id, its acceptance and its past attempts stay.

Input:  ARGV[1] id   ARGV[2] maximum age from now, ms   ARGV[3] new policy, JSON, or ''
Output: { 'OK', job... }      jobs as in queue.lua
        { 'SAME', state }     it is not dead or expired: nothing has changed
Errors: { 'MISSING' }
]]
local r = read(ARGV[1])
if not r then return { 'MISSING' } end
if r.s ~= 'dead' and r.s ~= 'expired' then return { 'SAME', r.s } end
local now = clock()
local jobs = {}
local record = N.record .. r.id
local seq = redis.call('HINCRBY', N.stats, 'seq', 1)
redis.call('HINCRBY', N.stats, 'redriven', 1)
redis.call('ZREM', N.dead, r.id)
redis.call('PERSIST', record)
redis.call('PERSIST', N.request .. r.id)
redis.call('HSET', record, 'c', 0, 'l', 0, 'seq', seq, 'exp', now + tonumber(ARGV[2]))
redis.call('HDEL', record, 'end', 'why', 'died')
redis.call('HINCRBY', record, 'red', 1)
if ARGV[3] ~= '' then redis.call('HSET', record, 'pol', ARGV[3]) end
redis.call('HINCRBY', N.stats, r.s, -1)
redis.call('HINCRBY', N.stats, 'bytes', tonumber(r.by))
redis.call('HINCRBY', N.unfinished, r.fn, 1)
redis.call('ZADD', N.expiry, now + tonumber(ARGV[2]), r.id)
r.seq = seq
if r.ik then redis.call('PERSIST', N.idempotency .. r.ik) end
if r.key then redis.call('ZADD', N.line .. r.key, seq, r.id) end
make_ready(r, now, jobs)
return { 'OK', unpack(jobs) }
