-- The rare writes: policy version, state, and the steps of a rebuild. ARGV: one packed {verb, prefix, workspace, ...}.
local item = cmsgpack.unpack(ARGV[1])
local verb, prefix, workspace = item[1], item[2], item[3]
local base = base_of(prefix, workspace)
local meta = redis.call('HMGET', base .. 'meta', 'state', 'epoch', 'seq', 'ver', 'run')

-- Steps of a rebuild are fenced by its epoch and by the store's process: a second, older or resumed rebuilder is refused, and one under
-- whom the store was replaced.
local function fenced(epoch) return meta[1] == 'rebuilding' and tonumber(meta[2]) == epoch and meta[5] == run end

-- One command for many arguments, an even number at a time (Lua's stack is small).
local function in_pieces(arguments, command)
  for first = 1, #arguments, 500 do command(unpack(arguments, first, math.min(first + 499, #arguments))) end
end

local verbs = {}

-- The state travels with its version, so that an older push that arrives late changes nothing.
function verbs.policy(ver, state)
  if not meta[1] then return { 'NEED_REBUILD' } end
  if tonumber(meta[4] or 0) > ver then return { 'OK' } end
  redis.call('HSET', base .. 'meta', 'ver', int(ver))
  if meta[1] == 'rebuilding' or meta[1] == 'corrupt' then return { 'STATE', meta[1] } end
  redis.call('HSET', base .. 'meta', 'state', state)
  return { 'OK' }
end

-- Freeze. `since` is when the workspace was last open: a rebuild may take several turns.
function verbs.begin(epoch)
  if meta[2] and tonumber(meta[2]) >= epoch then return { 'STALE', tonumber(meta[2]) } end
  redis.call('HSET', base .. 'meta', 'state', 'rebuilding', 'epoch', int(epoch), 'run', run)
  redis.call('HDEL', base .. 'meta', 'asked')
  if meta[1] ~= 'rebuilding' then redis.call('HSET', base .. 'meta', 'since', int(now)) end
  return { 'OK', tonumber(meta[3] or 0) }
end

-- The gateways are asked to hand in what they hold (hand_in.lua). Answers for how long they have been, for how long the workspace is frozen (ms),
-- and who has said that this was all. A repetition changes nothing.
function verbs.ask(epoch)
  if meta[1] ~= 'rebuilding' or tonumber(meta[2]) ~= epoch then return { 'STALE', tonumber(meta[2] or 0) } end
  redis.call('HSETNX', base .. 'meta', 'asked', int(now))
  local at = redis.call('HMGET', base .. 'meta', 'asked', 'since')
  return { 'OK', now - tonumber(at[1]), now - tonumber(at[2] or at[1]), redis.call('HKEYS', base .. 'said:' .. int(epoch)) }
end

-- Events that Redis lost and the books never read, written again. events: {kind, rid, cost, held, charges, ctx, payload}
function verbs.emit(epoch, seq, events)
  if not fenced(epoch) then return { 'STALE', tonumber(meta[2] or 0) } end
  if seq > tonumber(meta[3] or 0) then redis.call('HSET', base .. 'meta', 'seq', int(seq)) end
  for _, e in ipairs(events) do emit(prefix, workspace, e[1], e[2], e[3], e[4], e[5], e[6], e[7]) end
  return { 'OK' }
end

-- Forget open holds, and counters page by page; answers where the next page begins ("0": nowhere) and how many counters are left.
function verbs.wipe(epoch, cursor, most)
  if not fenced(epoch) and meta[1] ~= 'deleting' then return { 'STALE', tonumber(meta[2] or 0) } end
  local mine = 'w:' .. workspace .. ':r:'
  for _, member in ipairs(cursor == '0' and redis.call('ZRANGE', prefix .. 'open', 0, -1) or {}) do
    if string.sub(member, 1, #mine) == mine then
      redis.call('DEL', prefix .. member)
      redis.call('ZREM', prefix .. 'open', member)
    end
  end
  local page, counters, suffixes, dues = redis.call('HSCAN', base .. 'idx', cursor, 'COUNT', most), {}, {}, {}
  for i = 1, #page[2], 2 do
    local family = string.match(page[2][i], '^b:([^:]+:%d+):')
    if family then redis.call('DEL', base .. 'c:' .. family) end
    counters[#counters + 1] = base .. page[2][i]
    suffixes[#suffixes + 1] = page[2][i]
    dues[#dues + 1] = 'w:' .. workspace .. ':' .. page[2][i]
  end
  in_pieces(counters, function(...) redis.call('DEL', ...) end)
  in_pieces(suffixes, function(...) redis.call('HDEL', base .. 'idx', ...) end)
  in_pieces(dues, function(...) redis.call('ZREM', prefix .. 'due', ...) end)
  return { 'OK', page[1], redis.call('HLEN', base .. 'idx') }
end

-- Absolute values, so that a repeated chunk changes nothing. counters: {suffix, s, h, end, label}; holds: {rid, amount, charges, ctx, at, lease, slots}
function verbs.seed(epoch, counters, holds)
  if not fenced(epoch) then return { 'STALE', tonumber(meta[2] or 0) } end
  local listed, dues = {}, {}
  for i, c in ipairs(counters) do
    redis.call('HSET', base .. c[1], 's', int(c[2]), 'h', int(c[3]), 'v', c[5])
    listed[2 * i - 1], listed[2 * i] = c[1], int(c[4])
    dues[2 * i - 1], dues[2 * i] = int(math.max(c[4], now) + RETIRE_MS), 'w:' .. workspace .. ':' .. c[1]
  end
  in_pieces(listed, function(...) redis.call('HSET', base .. 'idx', ...) end)
  in_pieces(dues, function(...) redis.call('ZADD', prefix .. 'due', ...) end)
  for _, hold in ipairs(holds) do
    redis.call('DEL', base .. 'r:' .. hold[1])
    local slots = {}
    for i, suffix in ipairs(hold[7]) do
      slots[i] = { suffix, 'c' }
      occupy(base, suffix, hold[1], hold[6])
    end
    record_hold(prefix, workspace, hold[1], hold[2], hold[3], slots, hold[5], hold[6], hold[4])
  end
  return { 'OK' }
end

-- families: {budget and period, values with a counter, end of the period} of each-value budgets (admit.lua, "CARDINALITY").
function verbs.commit(epoch, seq, ver, state, counters, families)
  if not fenced(epoch) then return { 'STALE', tonumber(meta[2] or 0) } end
  local listed = redis.call('HLEN', base .. 'idx')
  if listed ~= counters then return { 'INCOMPLETE', listed } end
  for _, family in ipairs(families) do
    redis.call('SET', base .. 'c:' .. family[1], int(family[2]), 'PXAT', int(math.min(family[3] + RETIRE_MS, 8000000000000)))
  end
  redis.call('HSET', base .. 'meta', 'state', state, 'seq', int(math.max(seq, tonumber(meta[3] or 0))),
    'ver', int(math.max(ver, tonumber(meta[4] or 0))), 'n', int(listed), 'run', run)
  redis.call('HDEL', base .. 'meta', 'since', 'asked')
  return { 'OK', math.max(seq, tonumber(meta[3] or 0)) }
end

-- A deleted budget's counters leave once nothing late can reach them.
function verbs.forget(budget)
  local cursor, family = '0', 'b:' .. budget .. ':'
  repeat
    local page = redis.call('HSCAN', base .. 'idx', cursor, 'MATCH', family .. '*', 'COUNT', 1000)
    cursor = page[1]
    for i = 1, #page[2], 2 do
      redis.call('ZADD', prefix .. 'due', 'LT', int(now + RETIRE_MS), 'w:' .. workspace .. ':' .. page[2][i])
    end
  until cursor == '0'
  return { 'OK' }
end

-- The last of a deleted workspace; refused while a hold is open or a counter is left.
function verbs.erase()
  if meta[1] ~= 'deleting' then return { 'STATE', meta[1] or 'missing' } end
  if redis.call('HLEN', base .. 'idx') > 0 then return { 'INCOMPLETE', redis.call('HLEN', base .. 'idx') } end
  redis.call('DEL', base .. 'meta', base .. 'idx')
  return { 'OK' }
end

return verbs[verb](unpack(item, 4))
