--[[
Writes the answer of a synchronous call with an idempotency key, goes on with it, or gives the key free.

Input:  ARGV[1] scope   ARGV[2] invocation id   ARGV[3] done | renew | release
        ARGV[4] head of the answer, JSON   ARGV[5] body   ARGV[6] reference, JSON or ''   ARGV[7] lease, ms
Output: 1 when the key is still held by this invocation, else 0 and nothing is written
Errors: none of its own. A late `done` overwrites `unknown`: knowing is better.
]]
local key = N.idempotency .. ARGV[1]
local held = redis.call('HMGET', key, 'id', 'st')
if held[1] ~= ARGV[2] or held[2] == 'done' then return 0 end
if ARGV[3] == 'renew' then
  redis.call('HSET', key, 'st', 'running', 'lease', clock() + tonumber(ARGV[7]))
  redis.call('PEXPIRE', key, IDEMPOTENCY_MS)
elseif ARGV[3] == 'release' then
  redis.call('DEL', key)
  redis.call('PUBLISH', N.ended .. ARGV[2], 'released')
else
  redis.call('HSET', key, 'st', 'done', 'h', ARGV[4], 'b', ARGV[5])
  if ARGV[6] ~= '' then redis.call('HSET', key, 'blob', ARGV[6]) end
  redis.call('HDEL', key, 'lease')
  redis.call('PEXPIRE', key, IDEMPOTENCY_MS)
  redis.call('PUBLISH', N.ended .. ARGV[2], 'done')
end
return 1
