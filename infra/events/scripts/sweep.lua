--[[
Finds what a crash left half done: released invocations whose BullMQ job is not there (its adder died, or the job was
removed as stalled), and functions with a full room and an open window.

Input:  ARGV[1] how old, ms   ARGV[2] how many of each function at most   ARGV[3] prefix of BullMQ's queues: a job's key is
        this, the shard, ':' and the job id
Output: { count, job... }   jobs as in queue.lua; those that are named here again get a job of their own
Errors: none of its own.
]]
local now = clock()
local jobs = {}
local count = 0

local function has_job(name)
  for shard = 0, SHARDS - 1 do
    if call('EXISTS', ARGV[3] .. shard .. ':' .. name) == 1 then return true end
  end
  return false
end

for _, fn in ipairs(call('HKEYS', N.unfinished)) do
  local window, space = N.window .. fn, space_of(fn).key
  for _, id in ipairs(call('ZRANGEBYSCORE', window, '-inf', now - ARGV[1], 'LIMIT', 0, ARGV[2])) do
    local r = read(id)
    local is_released = r and r.s == 'ready' and r.job and r.job ~= ''
    if is_released and not has_job(r.job) then
      local job = new_job(id, fn)
      call('HSET', N.record .. id, 'job', job[2])
      job[3] = id
      jobs[#jobs + 1] = job
      count = count + 1
    end
    local is_there = is_released or r and r.s == 'running'
    mark(window, id, is_there and now)
    mark(space, id, is_there and now)
  end
end
for _, fn in ipairs(call('SRANDMEMBER', N.rooms, 100)) do release(fn, now, jobs) end
return { count, unpack(jobs) }
