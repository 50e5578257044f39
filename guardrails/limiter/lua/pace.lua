-- pace: may calls that cost nothing be made now? State, policy version and rates; nothing is held and nothing is booked, so counters
-- that are being rebuilt are in nobody's way. Of a workspace that is not known here, the asker must have just read the policy.
-- ARGV: one packed request a call: prefix, workspace, policy version, GCRA rates, 1 for a policy that was just read.
local function pace(item)
  local base = base_of(item[1], item[2])
  local meta = redis.call('HMGET', base .. 'meta', 'state', 'ver')
  if meta[1] == 'suspended' or meta[1] == 'deleting' then return { 'STATE', meta[1] } end
  if not meta[2] and item[5] == 0 then return { 'NEED_REBUILD', 'meta' } end
  if meta[2] and tonumber(meta[2]) > item[3] then return { 'STALE_POLICY', tonumber(meta[2]) } end
  local plan = { rates = {}, arrivals = {}, rate_left = {} }
  local refused = check_rates(base, item[4], plan)
  if refused then return refused end
  for i, rate in ipairs(item[4]) do take_rate(base, rate, plan.arrivals[i]) end
  return { 'OK', 0, 0, {}, plan.rate_left }
end

local replies = {}
for i = 1, #ARGV do replies[i] = pace(cmsgpack.unpack(ARGV[i])) end
return replies
