-- split: what a hold was for comes in parts (the lines of a batch), each an attempt of its own on the counters of the hold. ARGV: partition prefix,
-- workspace, rid of the hold, then one packed {rid, cost, tokens, calls, ctx, payload} a part. A part that was settled before is ALREADY.
local prefix, workspace, rid = ARGV[1], ARGV[2], ARGV[3]
local base = base_of(prefix, workspace)

-- A part takes its room out of what is still held; a hold that has expired was charged whole already and is corrected at its end.
local function settle_part(state, left, amount, part, cost, tokens, calls, ctx, payload)
  if redis.call('EXISTS', base .. 'r:' .. part) == 1 then return 'ALREADY', amount end
  local charged = {}
  for i, c in ipairs(left) do
    local spent = actual(c[2], cost, tokens, calls)
    local taken = state == 'H' and math.min(spent, c[3]) or 0
    if spent ~= 0 and c[4] then redis.call('HINCRBY', base .. c[1], 's', int(spent)) end
    if taken ~= 0 and c[4] then redis.call('HINCRBY', base .. c[1], 'h', int(-taken)) end
    c[3] = c[3] - taken
    charged[i] = { c[1], c[2], spent }
  end
  emit(prefix, workspace, 'settle', part, cost, cost, charged, ctx, payload)
  redis.call('HSET', base .. 'r:' .. part, 'st', 'S', 'cost', int(cost))
  redis.call('PEXPIRE', base .. 'r:' .. part, int(ENDED_MS))
  return 'OK', state == 'H' and math.max(0, amount - cost) or amount
end

local _, stop = open_for_ends(base)
if stop then return stop end
local record = redis.call('HMGET', base .. 'r:' .. rid, 'st', 'amt', 'bk')
if not record[1] then return { 'UNKNOWN' } end
if record[1] ~= 'H' and record[1] ~= 'X' then return { 'ENDED', record[1] } end
local left, amount = cmsgpack.unpack(record[3]), tonumber(record[2])
for _, c in ipairs(left) do
  local pair = redis.call('HMGET', base .. c[1], 's', 'h')
  if not (pair[1] and pair[2]) and redis.call('HEXISTS', base .. 'idx', c[1]) == 1 then return { 'NEED_REBUILD', c[1] } end
  if record[1] == 'H' and not (pair[1] and pair[2]) and c[3] > 0 then return { 'NEED_REBUILD', c[1] } end
  c[4] = pair[1] and true or false  -- else its period is long over and it has left
end
local words = {}
for i = 4, #ARGV do
  local p = cmsgpack.unpack(ARGV[i])
  words[i - 3], amount = settle_part(record[1], left, amount, p[1], p[2], p[3], p[4], p[5], p[6])
end
for _, c in ipairs(left) do c[4] = nil end
if record[1] == 'H' then redis.call('HSET', base .. 'r:' .. rid, 'amt', int(amount), 'bk', cmsgpack.pack(left)) end
return { 'DONE', words }
