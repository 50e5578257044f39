-- admit: may these calls be made? All checks of a call first, then all its writes (a script is atomic but does not roll back).
-- ARGV: gateway's now (ms), percent of maxmemory beyond which nothing new is admitted, then one packed request a call.
local gateway_now, ceiling = tonumber(ARGV[1]), tonumber(ARGV[2])

-- Past its throttle threshold a scope's calls are spaced: at a set rate, or so that what is left lasts for what remains of the period.
local function check_throttle(base, budget, used, plan)
  local key = 'rl:t:' .. budget[1]
  local arrival = arrival_of(base .. key).at or 0
  local remaining = (budget[6] - now) * 1000
  arrival = math.min(arrival, now_us + remaining)
  if arrival > now_us then return math.ceil((arrival - now_us) / 1000) end
  local step, per_unit = 0, 0
  if budget[8] > 0 then
    step = 60000000 / budget[8]
  else
    local left = budget[9] - used
    if left <= 0 then return math.ceil(remaining / 1000) end
    per_unit = remaining / left
    step = math.min(per_unit * budget[3], remaining)
  end
  plan.throttles = plan.throttles or {}
  plan.throttles[#plan.throttles + 1] = { key, step, per_unit, budget[3], #plan.charges + 1 }
end

-- The counters of a call, each with whether the index lists it.
local function find_counters(base, budgets, plan)
  local unknown, suffixes = {}, {}
  for i, budget in ipairs(budgets) do
    local counter = counter_of(base .. budget[1])
    plan.counters[i] = counter
    if counter.listed == nil then
      unknown[#unknown + 1] = counter
      suffixes[#suffixes + 1] = budget[1]
    end
  end
  if #unknown == 0 then return end
  for n, found in ipairs(call('HMGET', base .. 'idx', unpack(suffixes))) do unknown[n].listed = found and true or false end
end

-- A counter that is not there: it was lost, has no room, or is new. Answers the refusal.
local function check_missing(base, i, budget, counter, plan)
  if counter.listed or counter.s or counter.h then return { 'NEED_REBUILD', budget[1] } end
  plan.fresh = plan.fresh or {}
  plan.fresh[i] = ''
  if budget[11] > 0 then
    local family = 'c:' .. string.match(budget[1], '^b:([^:]+:%d+)')
    if tonumber(call('GET', base .. family) or 0) >= budget[11] then return { 'CARDINALITY', i, now } end
    plan.fresh[i] = family
  end
end

local function check_budgets(base, budgets, plan)
  if #budgets == 0 then return end
  for i, budget in ipairs(budgets) do
    if now < budget[5] or now >= budget[6] then return { 'PERIOD', i, now } end
  end
  find_counters(base, budgets, plan)
  local used, charges, refused, throttled = plan.used, plan.charges, nil, nil
  for i, budget in ipairs(budgets) do
    local counter, amount, cap = plan.counters[i], budget[3], budget[4]
    local before = 0
    if counter.s and counter.h then
      before = counter.s + counter.h
    else
      local stop = check_missing(base, i, budget, counter, plan)
      if stop then return stop end
    end
    if cap >= 0 and before + amount > cap then
      refused = refused or i
    elseif budget[7] >= 0 and before >= budget[7] and not throttled then
      local wait = check_throttle(base, budget, before, plan)
      if wait then throttled = { i, wait } end
    end
    used[i] = before + amount
    charges[i] = { budget[1], budget[2], amount }
  end
  if not (refused or throttled) then return end
  local settled, held = {}, {}
  for i, counter in ipairs(plan.counters) do settled[i], held[i] = counter.s or 0, counter.h or 0 end
  if refused then return { 'DENIED', refused, now, settled, held } end
  return { 'THROTTLED', throttled[1], throttled[2], settled, held }
end

-- The first call on a counter, or the first after the index forgot it.
local function make_counter(item, base, meta, budget, counter, family)
  local prefix, workspace = item[1], item[2]
  if family then
    open_counter(prefix, workspace, budget[1], budget[3], budget[6], budget[10])
    counter.s, counter.h = 0, budget[3]
    if family ~= '' then
      call('INCR', base .. family)
      call('PEXPIREAT', base .. family, int(math.min(budget[6] + RETIRE_MS, 8000000000000)))
    end
  else
    call('HSET', base .. 'idx', budget[1], int(budget[6]))
    call('HINCRBY', base .. 'meta', 'n', 1)
    call('ZADD', prefix .. 'due', int(budget[6] + RETIRE_MS), 'w:' .. workspace .. ':' .. budget[1])
    add(counter, 0, budget[3])
  end
  counter.listed = true
  meta.n, meta.idx = meta.n + 1, meta.idx + 1
end

local function write(item, base, meta, budgets, plan)
  local prefix, workspace, rid, amount, lease, ctx = item[1], item[2], item[3], item[7], item[8], item[9]
  if item[5] > meta.ver then meta.ver, meta.newer = item[5], true end
  for i, rate in ipairs(item[11]) do
    if rate[2] == 'c' then
      occupy(base, rate[1], rid, lease)
      running[base .. rate[1]] = running[base .. rate[1]] + 1
    else
      take_rate(base, rate, plan.arrivals[i])
    end
  end
  for _, slow in ipairs(plan.throttles or {}) do
    local arrival = arrival_of(base .. slow[1])
    arrival.at, arrival.px = now_us + slow[2], math.ceil(slow[2] / 1000) + 1000
    if slow[3] > 0 then plan.rates[#plan.rates + 1] = { slow[1], 'p', slow[3], slow[4], slow[5] } end
  end
  for i, counter in ipairs(plan.counters) do
    local budget, family = budgets[i], plan.fresh and plan.fresh[i]
    if family or not counter.listed then
      make_counter(item, base, meta, budget, counter, family)
    else
      add(counter, 0, budget[3])
    end
  end
  record_hold(prefix, workspace, rid, amount, plan.charges, plan.rates, now, lease, ctx)
  local seq = emit(prefix, workspace, 'hold', rid, 0, amount, plan.charges, ctx)
  return { 'OK', seq, now + lease, plan.used, plan.rate_left }
end

-- What calls of one kind ask of their budgets comes packed, and is unpacked once for all of them; a call's amounts follow from the units
-- (wire.py, amount_in). Each call is through before the next sets them.
local kinds = {}

local function asked_of(item)
  local packed = item[10]
  if type(packed) ~= 'string' then return packed end
  local budgets, nano, tokens = kinds[packed], item[7], item[12]
  if not budgets then
    budgets = cmsgpack.unpack(packed)
    kinds[packed] = budgets
  end
  for _, budget in ipairs(budgets) do
    local unit = budget[2]
    budget[3] = unit == 'nano' and nano or unit == 'tokens' and tokens or 1
  end
  return budgets
end

local function admit(item)
  local prefix, rid = item[1], item[3]
  local base = base_of(prefix, item[2])
  local meta = meta_of(base)
  if not (meta.state and meta.epoch and meta.seq and meta.ver and meta.n) then return { 'NEED_REBUILD', 'meta' } end
  if meta.state ~= 'active' then return { 'STATE', meta.state } end
  if meta.run ~= run then return { 'RESTARTED' } end  -- until it was compared with what everybody has seen
  if meta.epoch > item[4] then return { 'STALE_EPOCH', meta.epoch, meta.seq, meta.ver } end
  if meta.epoch < item[4] or meta.seq < item[6] then return { 'ROLLED_BACK', meta.epoch, meta.seq } end
  if meta.ver > item[5] then return { 'STALE_POLICY', meta.ver } end
  -- An attempt's id (UUIDv7) says when it was made, and the books file it there: one made while the gateway's clock was wrong is refused, even if
  -- the clock was put right since. A minute is longer than any admission is tried.
  local made = tonumber(string.sub(rid, 1, 8) .. string.sub(rid, 10, 13), 16)
  if skewed(gateway_now) or made and math.abs(now - made) > 60000 then return { 'CLOCK_SKEW', now } end
  if call('EXISTS', base .. 'r:' .. rid) == 1 then return { 'DUPLICATE' } end
  if not meta.idx then meta.idx = call('HLEN', base .. 'idx') end
  if meta.idx ~= meta.n then return { 'NEED_REBUILD', 'idx' } end
  local plan = { rates = {}, arrivals = {}, rate_left = {}, used = {}, charges = {}, counters = {}, fresh = nil, throttles = nil }
  local budgets = asked_of(item)
  return check_rates(base, item[11], plan) or check_budgets(base, budgets, plan) or write(item, base, meta, budgets, plan)
end

-- Finishes must always pass, so admits stop while there is still room for them.
local replies, short = {}, memory_percent >= ceiling
for i = 3, #ARGV do replies[i - 2] = short and { 'FULL' } or admit(cmsgpack.unpack(ARGV[i])) end
return replies
