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
return accept_event(read_event(2), clock())
