--[[
Accepts invocations: record, request, idempotency record and place in the queue of each, in one write. The reply is the
moment from which the promise holds (under appendfsync always it comes after the fsync). Each is accepted or refused on
its own.

Input:  KEYS[1] epoch of the durable store
        ARGV[1] expected epoch   ARGV[2...] for each invocation, 20 of them:
        id · function name · delay, ms · maximum age, ms · priority (0 first) · line (ordering key) or '' · policy, JSON ·
        how long its result is kept, ms · whom to tell: s (success), f (failure), sf or '' · `window:rate` · origin, JSON ·
        head of the request, JSON · body · reference to the body, JSON or '' · idempotency scope or '' · fingerprint · unfinished of this function at most · unfinished bytes
        at most · id of the one that waits for it and others, with '@' in front when that is in another cell, or '' ·
        '' or, if it waits for those that name it (they come after it in this very call), 1 and as many more as are in other cells
Output: { jobs, reply... } with one reply for each invocation, in order:
        { 'OK', now, state }               accepted
        { 'SAME', id }                     another request with this idempotency key was accepted before: this one is it
        { 'EXISTS', state }                this very id was accepted before
        { 'OTHER', id }                    refused: the idempotency key belongs to another request
        { 'FULL', what, count }            refused: a limit is reached, `count` (of the function) or `bytes` (of all)
        { 'ALONE' }                        refused: the one that was to wait for it is not there
Errors: { 'EPOCH' }                        this is not the store that promises were made in; nothing is written
]]
if call('GET', KEYS[1]) ~= ARGV[1] then return { 'EPOCH' } end
local now = clock()
local jobs = {}
local replies = { jobs }
local waiting = {}
for first = 2, #ARGV, #EVENT do
  local event = read_event(first)
  replies[#replies + 1] = accept_event(event, now, jobs)
  if event.waits ~= '' then waiting[#waiting + 1] = event.id end
end
enter_rooms(now, jobs)
for _, id in ipairs(waiting) do
  -- None of its group was accepted, or all of it had been before.
  local r = call('HGET', N.record .. id, 'gn') == '0' and read(id)
  if r and r.s == 'waiting' then wake(r, now, jobs) end
end
return replies
