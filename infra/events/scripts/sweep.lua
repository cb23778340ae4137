--[[
Finds what a crash left half done: released invocations whose BullMQ job is not there (its adder died, or the job was
removed as stalled), and functions with a full room and an open window.

Input:  ARGV[1] how old, ms   ARGV[2] how many at most   ARGV[3] prefix of BullMQ's queues: a job's key is this, the shard,
        ':' and the job id
Output: { count, job... }   jobs as in queue.lua; those that are named here again get a job of their own
Errors: none of its own.
]]
local now = clock()
local jobs = {}
local count = 0
local ids = redis.call('ZRANGEBYSCORE', N.released, '-inf', now - tonumber(ARGV[1]), 'LIMIT', 0, ARGV[2])
for _, id in ipairs(ids) do
  local r = read(id)
  if not r or r.s ~= 'ready' or not r.job then
    redis.call('ZREM', N.released, id)
  else
    local exists = 0
    for shard = 0, SHARDS - 1 do exists = exists + redis.call('EXISTS', ARGV[3] .. shard .. ':' .. r.job) end
    redis.call('ZADD', N.released, now, id)
    if exists == 0 then
      local turn = redis.call('HINCRBY', N.stats, 'jobs', 1)
      local name = id .. '-' .. turn
      redis.call('HSET', N.record .. id, 'job', name)
      jobs[#jobs + 1] = { shard_of(r.fn, turn), name, id }
      count = count + 1
    end
  end
end
for _, fn in ipairs(redis.call('SRANDMEMBER', N.rooms, 100)) do release(fn, now, jobs) end
return { count, unpack(jobs) }
