--[[
Claims an idempotency key for a synchronous call, or says what has become of it.

Input:  ARGV[1] scope   ARGV[2] fingerprint   ARGV[3] invocation id for a new one   ARGV[4] lease, ms
Output: { 'NEW' }                                 the caller runs it, renews the lease and writes the end
        { 'RUNNING', id }                         somebody runs it
        { 'DONE', id, head, body, reference }     its answer
        { 'UNKNOWN', id }                         whoever ran it died: nobody knows whether it ran
Errors: { 'OTHER', id }                           the key belongs to another request
]]
local key = N.idempotency .. ARGV[1]
local now = clock()
local held = redis.call('HMGET', key, 'fp', 'id', 'st', 'lease', 'h', 'b', 'blob')
if not held[1] then
  redis.call('HSET', key, 'fp', ARGV[2], 'id', ARGV[3], 'kind', 'sync', 'st', 'running', 'lease', now + tonumber(ARGV[4]))
  -- Renewed while it runs. If its holder dies and nobody ever asks, it goes by itself.
  redis.call('PEXPIRE', key, IDEMPOTENCY_MS)
  return { 'NEW' }
end
if held[1] ~= ARGV[2] then return { 'OTHER', held[2] } end
if held[3] == 'done' then return { 'DONE', held[2], held[5], held[6], held[7] or '' } end
if held[3] == 'running' and tonumber(held[4]) > now then return { 'RUNNING', held[2] } end
redis.call('HSET', key, 'st', 'unknown')
redis.call('PEXPIRE', key, IDEMPOTENCY_MS)
return { 'UNKNOWN', held[2] }
