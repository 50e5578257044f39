-- Put in front of the scripts that end holds. H -> S settled | V void | X expired; X -> S or V by one signed correction.

-- What an attempt really used of a counter's unit.
local function actual(unit, cost, tokens, calls)
  if unit == 'nano' then return cost elseif unit == 'tokens' then return tokens else return calls end
end

local function bury(prefix, workspace, rid, state, cost)
  local key = base_of(prefix, workspace) .. 'r:' .. rid
  redis.call('DEL', key)
  redis.call('HSET', key, 'st', state, 'cost', int(cost))
  redis.call('PEXPIRE', key, int(ENDED_MS))
  put(closed, prefix .. 'open', 'w:' .. workspace .. ':r:' .. rid)
end

-- Concurrency slots are given back; token rates and paces that were advanced by the bound are corrected to the truth.
local function give_back(base, rid, rates, tokens, charged)
  for _, rate in ipairs(rates) do
    local key = base .. rate[1]
    if rate[2] == 'c' then
      put(closed, key, rid)
    elseif rate[2] == 'p' or rate[5] == 1 then
      local used, arrival = rate[2] == 'p' and charged[rate[5]][3] or tokens, arrival_of(key)
      if arrival.at and used ~= rate[4] then
        arrival.at, arrival.moved = arrival.at + rate[3] * (used - rate[4]), true
      end
    end
  end
end

-- A hold ends: the held amounts leave h, what is charged enters s. Checks first: h below the amount means the books are wrong, so stop.
local function release(prefix, workspace, rid, kind, record, cost, tokens, calls, payload)
  local base, held = base_of(prefix, workspace), tonumber(record[2])
  local charges, present = cmsgpack.unpack(record[3]), {}
  local charged = {}
  for i, c in ipairs(charges) do
    local counter = counter_of(base .. c[1])
    present[i] = counter.s and counter.h and counter
    if not present[i] and (c[3] > 0 or redis.call('HEXISTS', base .. 'idx', c[1]) == 1) then return { 'NEED_REBUILD', c[1] } end
    if present[i] and counter.h < c[3] then
      redis.call('HSET', base .. 'meta', 'state', 'corrupt')
      meta_of(base).state = 'corrupt'
      return { 'CORRUPT', c[1] }
    end
    local amount = 0
    if kind == 'expire' then amount = c[3] elseif kind == 'settle' then amount = actual(c[2], cost, tokens, calls) end
    charged[i] = { c[1], c[2], amount }
  end
  for i, c in ipairs(charges) do
    if present[i] then add(present[i], charged[i][3], -c[3]) end
  end
  if kind == 'expire' then cost = held elseif kind == 'void' then cost, tokens = 0, 0 end
  local rates = cmsgpack.unpack(record[4])
  if #rates > 0 and kind ~= 'expire' then give_back(base, rid, rates, tokens, charged) end
  local seq = emit(prefix, workspace, kind, rid, cost, held, charged, record[5], payload)
  if kind == 'expire' then
    local key = base .. 'r:' .. rid
    redis.call('HSET', key, 'st', 'X', 'cost', int(cost))
    redis.call('PEXPIRE', key, int(LATE_MS))
    put(closed, prefix .. 'open', 'w:' .. workspace .. ':r:' .. rid)
    return { 'OK', seq, 'X' }
  end
  local state = kind == 'settle' and 'S' or 'V'
  bury(prefix, workspace, rid, state, cost)
  return { 'OK', seq, state }
end

-- The truth about an attempt that was charged at its hold: one signed correction.
local function correct(prefix, workspace, rid, kind, record, cost, tokens, calls, payload)
  local base, held = base_of(prefix, workspace), tonumber(record[2])
  local charges, present = cmsgpack.unpack(record[3]), {}
  if kind == 'void' then cost, tokens, calls = 0, 0, 0 end
  for i, c in ipairs(charges) do
    local counter = counter_of(base .. c[1])
    present[i] = counter.s and counter.h and counter
    if not present[i] and redis.call('HEXISTS', base .. 'idx', c[1]) == 1 then return { 'NEED_REBUILD', c[1] } end
  end
  local deltas = {}
  for i, c in ipairs(charges) do
    deltas[i] = { c[1], c[2], actual(c[2], cost, tokens, calls) - c[3] }
    if present[i] then add(present[i], deltas[i][3], 0) end
  end
  local seq = emit(prefix, workspace, 'adjust', rid, cost - held, held, deltas, record[5], payload)
  local state = kind == 'void' and 'V' or 'S'
  bury(prefix, workspace, rid, state, cost)
  return { 'OK', seq, state }
end

local function finish(prefix, workspace, rid, kind, cost, tokens, calls, payload)
  local base = base_of(prefix, workspace)
  local meta, stop = open_for_ends(base)
  if stop then return stop end
  local record = redis.call('HMGET', base .. 'r:' .. rid, 'st', 'amt', 'bk', 'rt', 'ctx')
  if not record[1] then
    if kind ~= 'void' then return { 'UNKNOWN' } end
    bury(prefix, workspace, rid, 'V', 0)  -- an admit that is still under way will find this and be a DUPLICATE
    return { 'OK', 0, 'V' }
  end
  if record[1] == 'H' then
    if kind == 'late' then return { 'OPEN' } end
    return release(prefix, workspace, rid, kind, record, cost, tokens, calls, payload)
  end
  if record[1] == 'X' and kind ~= 'expire' then
    return correct(prefix, workspace, rid, kind, record, cost, tokens, calls, payload)
  end
  return { 'ALREADY', record[1], meta.seq }
end
