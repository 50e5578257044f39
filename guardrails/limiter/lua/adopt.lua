-- adopt: a live gateway that was not waited for presents a hold that Redis forgot (hand_in.lua is the rule, this the exception). The call is already running, so no cap can refuse it any more.
-- ARGV: one packed admit request each (it occupies its slots again; other rates are not advanced twice).
local function adopt(item)
  local prefix, workspace, rid, amount, lease, ctx = item[1], item[2], item[3], item[7], item[8], item[9]
  local base = base_of(prefix, workspace)
  local _, stop = open_for_ends(base)
  if stop then return stop end
  local known = redis.call('HGET', base .. 'r:' .. rid, 'st')
  if known then return { 'ALREADY', known } end
  if redis.call('HLEN', base .. 'idx') ~= tonumber(redis.call('HGET', base .. 'meta', 'n')) then return { 'NEED_REBUILD', 'idx' } end
  local charges, fresh = {}, {}
  for i, budget in ipairs(item[10]) do
    fresh[i] = redis.call('EXISTS', base .. budget[1]) == 0
    if fresh[i] and redis.call('HEXISTS', base .. 'idx', budget[1]) == 1 then return { 'NEED_REBUILD', budget[1] } end
    charges[i] = { budget[1], budget[2], budget[3] }
  end
  for i, budget in ipairs(item[10]) do
    if fresh[i] then
      open_counter(prefix, workspace, budget[1], budget[3], budget[6], budget[10])
    else
      redis.call('HINCRBY', base .. budget[1], 'h', int(budget[3]))
    end
  end
  local slots = {}
  for _, rate in ipairs(item[11]) do
    if rate[2] == 'c' then
      slots[#slots + 1] = { rate[1], 'c' }
      occupy(base, rate[1], rid, lease)
    end
  end
  record_hold(prefix, workspace, rid, amount, charges, slots, now, lease, ctx)
  return { 'OK', emit(prefix, workspace, 'hold', rid, 0, amount, charges, ctx) }
end

local replies = {}
for i = 1, #ARGV do replies[i] = adopt(cmsgpack.unpack(ARGV[i])) end
return replies
