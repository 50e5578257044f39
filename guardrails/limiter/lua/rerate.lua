-- rerate: signed corrections of ended attempts whose price arrived or changed. ARGV: partition prefix, workspace, then one packed
-- {rid, leg, cost delta, charges {suffix, unit, delta, period end or 0, label}, ctx, payload} each. Idempotent by (rid, leg): a repeated or late one is ALREADY.
local prefix, workspace = ARGV[1], ARGV[2]
local base = base_of(prefix, workspace)

local function rerate(rid, leg, delta, charges, ctx, payload)
  local ended = redis.call('HGET', base .. 'r:' .. rid, 'st')
  if ended == 'H' or ended == 'X' then return { 'OPEN', ended } end  -- its own truth may still come, and counts from the hold
  local done = base .. 'rr:' .. rid .. ':' .. int(leg)
  if redis.call('EXISTS', done) == 1 then return { 'ALREADY' } end
  local present = {}
  for i, c in ipairs(charges) do
    present[i] = redis.call('EXISTS', base .. c[1]) == 1
    if not present[i] and redis.call('HEXISTS', base .. 'idx', c[1]) == 1 then return { 'NEED_REBUILD', c[1] } end
  end
  for i, c in ipairs(charges) do
    -- Nothing was ever settled on it, so the books had nothing to rebuild it from; where its period is over it has left for good.
    if not present[i] and c[4] > 0 then open_counter(prefix, workspace, c[1], 0, c[4], c[5]) end
    if (present[i] or c[4] > 0) and c[3] ~= 0 then redis.call('HINCRBY', base .. c[1], 's', int(c[3])) end
  end
  redis.call('SET', done, '1', 'PX', int(ENDED_MS))
  return { 'OK', emit(prefix, workspace, 'rerate', rid, delta, 0, charges, ctx, payload, leg) }
end

local _, stop = open_for_ends(base)
if stop then return stop end
local replies = {}
for i = 3, #ARGV do replies[i - 2] = rerate(unpack(cmsgpack.unpack(ARGV[i]))) end
return { 'DONE', replies }
