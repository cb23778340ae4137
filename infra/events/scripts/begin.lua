--[[
A consumer that holds a BullMQ job begins its invocations: each gets a new attempt, a new fence token and a lease. Written
before a byte goes to a sandbox, so that an attempt that may have run is never taken for one that did not.

Input:  ARGV[1] consumer   ARGV[2] lease, ms   ARGV[3] id of the BullMQ job   ARGV[4...] invocation ids
Output: { jobs, begun... } with what describe_begun gives for each one that is ours until its lease ends; the others are
        not to be run (any more)
Errors: none of its own.
]]
local now = clock()
local jobs = {}
local reply = { jobs }
for i = 4, #ARGV do
  local r = read(ARGV[i], ALL_FIELDS)
  if r and r.s == 'ready' and r.job == ARGV[3] then
    if tonumber(r.exp) <= now then
      finalize(r, 'expired', 'max_age', now, jobs)
    else
      reply[#reply + 1] = begin_attempt(r, ARGV[1], tonumber(ARGV[2]), now)
    end
  end
end
return reply
