--[[
A consumer that holds a BullMQ job begins its invocations: each gets a new attempt, a new fence token and a lease. Written
before a byte goes to a sandbox, so that an attempt that may have run is never taken for one that did not.

Input:  ARGV[1] consumer   ARGV[2] lease, ms   ARGV[3] id of the BullMQ job   ARGV[4...] invocation ids
Output: { jobs, entry... } with one entry for each id, in order:
        { 1, record (flat field, value list), request (likewise) }   begun: it is ours until the lease ends
        { 0, state or '' }                                           not ours to run (any more)
Errors: none of its own.
]]
local now = clock()
local jobs = {}
local reply = {}
for i = 4, #ARGV do
  local id = ARGV[i]
  local r = read(id)
  if not r or r.s ~= 'ready' or r.job ~= ARGV[3] then
    reply[#reply + 1] = { 0, r and r.s or '' }
  elseif tonumber(r.exp) <= now then
    finalize(r, 'expired', 'max_age', now, jobs)
    reply[#reply + 1] = { 0, 'expired' }
  else
    local record = N.record .. id
    local n = tonumber(r.n) + 1
    local fence = tonumber(r.f) + 1
    redis.call('HSET', record, 's', 'running', 'n', n, 'f', fence, 'cs', ARGV[1],
      'a' .. n, cjson.encode({ number = n, fence = fence, startedMs = now, consumer = ARGV[1] }))
    redis.call('HDEL', record, 'job')
    redis.call('ZREM', N.released, id)
    redis.call('ZADD', N.leases, now + tonumber(ARGV[2]), id)
    reply[#reply + 1] = { 1, redis.call('HGETALL', record), redis.call('HGETALL', N.request .. id) }
  end
end
return { jobs, unpack(reply) }
