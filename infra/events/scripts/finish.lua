--[[
The holder of the newest fence token writes how its attempt ended and what follows. Repeating it is harmless.

Input:  ARGV[1] id   ARGV[2] fence   ARGV[3] what follows: succeeded | dead | retry | again | lost
        ARGV[4] outcome   ARGV[5] 1 if it counts as a failed try   ARGV[6] reason of a final state or ''
        ARGV[7] delay of a retry, ms   ARGV[8] detail of the attempt, JSON
        ARGV[9] head of the result, JSON or ''   ARGV[10] its body   ARGV[11] reference to the body, JSON or ''
        ARGV[12] for `lost`: the runner that died under it, or ''
        `again`: back into the queue after the delay without being counted (it did not run, or not by its own fault)
Output: { 'OK', state, job... }   jobs as in queue.lua
        { 'SAME', state }         this very end was written before
Errors: { 'FENCED', state }       somebody else holds a newer token, or it was ended otherwise; nothing is written
]]
local r = read(ARGV[1])
if not r then return { 'FENCED', '' } end
local record = N.record .. r.id
if r.f ~= ARGV[2] then return { 'FENCED', r.s } end
if r.s ~= 'running' then
  if redis.call('HGET', record, 'df') == ARGV[2] then return { 'SAME', r.s } end
  return { 'FENCED', r.s }
end
local now = clock()
local jobs = {}
local detail = cjson.decode(ARGV[8])
detail.endedMs = now
redis.call('HSET', record, 'df', ARGV[2])
if ARGV[3] == 'lost' then
  local state = lose(r, ARGV[12], detail, now, jobs)
  return { 'OK', state, unpack(jobs) }
end
end_attempt(r, ARGV[4], detail)
if ARGV[5] == '1' then redis.call('HINCRBY', record, 'c', 1) end
if ARGV[9] ~= '' then
  local result = N.result .. r.id
  local kept = cjson.decode(r.pol).resultMs
  redis.call('DEL', result)
  redis.call('HSET', result, 'h', ARGV[9], 'b', ARGV[10])
  if ARGV[11] ~= '' then redis.call('HSET', result, 'blob', ARGV[11]) end
  redis.call('PEXPIRE', result, kept)
  redis.call('HSET', record, 'resx', now + kept)
end
local follows = ARGV[3]
if follows == 'succeeded' or follows == 'dead' then
  finalize(r, follows, ARGV[6], now, jobs)
  return { 'OK', follows, unpack(jobs) }
end
local due = now + tonumber(ARGV[7])
delay_until(r, 'retry_wait', due)
release(r.fn, now, jobs)
return { 'OK', 'retry_wait', unpack(jobs) }
