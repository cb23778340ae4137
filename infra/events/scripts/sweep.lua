--[[
Finds what a crash left half done: released invocations whose BullMQ job is not there (its adder died, or the job was
removed as stalled), places of a namespace that nobody has, and functions with a full room and an open window.

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

local seen = {}
for _, fn in ipairs(call('HKEYS', N.unfinished)) do
  local window, space = N.window .. fn, space_of(fn).key
  seen[space] = true
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
    mark(window, id, is_there and now or false)
    mark(space, id, is_there and now or false)
  end
end
-- Places that were not given back: by a release that did not know of them.
for space in pairs(seen) do
  for _, id in ipairs(call('ZRANGEBYSCORE', space, '-inf', now - ARGV[1], 'LIMIT', 0, ARGV[2])) do
    if not is_marked(space, id) then
      local r = read(id)
      mark(space, id, r and (r.s == 'running' or r.s == 'ready' and r.job and r.job ~= '') and now or false)
    end
  end
end
for _, fn in ipairs(call('SRANDMEMBER', N.rooms, 100)) do release(fn, now, jobs) end
return { count, unpack(jobs) }
