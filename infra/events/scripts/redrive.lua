--[[
Gives a dead or expired invocation a new series of attempts. Its id, its acceptance and its past attempts stay.

Input:  ARGV[1] id   ARGV[2] maximum age from now, ms   ARGV[3] new policy, JSON, or ''   ARGV[4] with it: how long a result
        is kept, ms
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
local seq = call('HINCRBY', N.stats, 'seq', 1)
call('HINCRBY', N.stats, 'redriven', 1)
call('ZREM', N.dead, r.id)
call('PERSIST', record)
call('PERSIST', N.request .. r.id)
if r.stn then call('PERSIST', N.steps .. r.id) end
call('HSET', record, 'c', 0, 'l', 0, 'seq', seq, 'exp', now + ARGV[2])
-- Its group has counted it already.
call('HDEL', record, 'end', 'why', 'died', 'out', 'oute', 'grp')
call('ZREM', N.outbox, r.id)
call('HINCRBY', record, 'red', 1)
if ARGV[3] ~= '' then call('HSET', record, 'pol', ARGV[3], 'rms', ARGV[4]) end
call('HINCRBY', N.stats, r.s, -1)
call('HINCRBY', N.stats, 'bytes', r.by)
call('HINCRBY', N.unfinished, r.fn, 1)
call('ZADD', N.expiry, now + ARGV[2], r.id)
r.seq = seq
if r.ik then call('PERSIST', N.idempotency .. r.ik) end
if r.key then call('ZADD', N.line .. r.key, seq, r.id) end
make_ready(r, now, jobs)
return { 'OK', unpack(jobs) }
