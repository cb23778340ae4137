--[[
The holders of the newest fence tokens write how their attempts ended and what follows. Repeating it is harmless.

Input:  ARGV[1] consumer   ARGV[2] its lease, ms   ARGV[3...] for each attempt, 13 of them:
        id · fence · what follows: succeeded | dead | retry | again | lost | wait · outcome · 1 if it counts as a failed try ·
        reason of a final state or '' · delay of a retry, ms · the attempt, JSON without its last brace · head of the result,
        JSON or '' · its body · reference to the body, JSON or '' · for `lost` the runner that died under it, or '' · 1 if
        the consumer will run the function's next one
        `wait`: it sleeps or waits for an event, as its steps say (step-put.lua)
        `again`: back into the queue after the delay without being counted (it did not run, or not by its own fault)
Output: { jobs, reply... } with one reply for each, in order; begun is what describe_begun gives, or false:
        { 'OK', state, begun }
        { 'SAME', state, begun }      this very end was written before
        { 'FENCED', state }           somebody else holds a newer token, or it was ended otherwise; nothing is written
Errors: none of its own.
]]
local now = clock()
local consumer, lease = ARGV[1], tonumber(ARGV[2])

-- The reply was lost, and with it that a next one was begun (which may be this very one).
local function begun_before(r, takes)
  local next = takes == '1' and r.nx and read(r.nx, ALL_FIELDS)
  if not next or next.s ~= 'running' or next.cs ~= consumer then return false end
  return describe_begun(next)
end

local function finish(first, jobs)
  local id, fence, follows, outcome, counts, reason, delay, attempt, head, body, blob, died, takes = unpack(ARGV, first, first + 12)
  local r = read(id)
  if not r then return { 'FENCED', '' } end
  if r.df == fence then return { 'SAME', r.s, begun_before(r, takes) } end
  if r.f ~= fence or r.s ~= 'running' then return { 'FENCED', r.s } end
  local record = N.record .. id
  taker = takes == '1' and { fn = r.fn, consumer = consumer, lease = lease } or nil
  attempt = attempt .. string.format(',"endedMs":%d}', now)
  local state
  if follows == 'lost' then
    state = lose(r, died, attempt, fence, now, jobs)
  elseif follows == 'wait' then
    bump(N.stats, 'outcome:suspended', 1)
    state = suspend(r, fence, now, jobs)
  else
    local fields = { 'df', fence, 'a' .. r.n, attempt }
    if head ~= '' then
      local result = N.result .. id
      if r.n ~= '1' then call('DEL', result) end
      if blob ~= '' then
        call('HSET', result, 'h', head, 'b', body, 'blob', blob)
      else
        call('HSET', result, 'h', head, 'b', body)
      end
      call('PEXPIRE', result, r.rms)
      fields[5], fields[6] = 'resx', string.format('%d', now + r.rms)
    end
    if counts == '1' then call('HINCRBY', record, 'c', 1) end
    if outcome ~= 'ok' then bump(N.stats, 'outcome:' .. outcome, 1) end
    if follows == 'succeeded' or follows == 'dead' then
      state = follows
      finalize(r, state, reason, now, jobs, fields)
    else
      state = 'retry_wait'
      unschedule(r)
      call('HSET', record, 's', state, 'due', string.format('%d', now + delay), unpack(fields))
      call('ZADD', N.due, now + delay, id)
      release(r.fn, now, jobs)
    end
  end
  local begun = taker and taker.begun or false
  if begun and not is_final(state) then call('HSET', record, 'nx', begun[1]) end
  if r.nx and not begun then call('HDEL', record, 'nx') end
  taker = nil
  return { 'OK', state, begun }
end

local jobs = {}
local replies = { jobs }
for first = 3, #ARGV, 13 do replies[#replies + 1] = finish(first, jobs) end
return replies
