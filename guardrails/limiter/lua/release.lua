-- Put in front of the scripts that end holds. H -> S settled | V void | X expired; X -> S or V by one signed correction.

-- What an attempt really used of a counter's unit.
local function actual(unit, cost, tokens, calls)
  if unit == 'nano' then return cost elseif unit == 'tokens' then return tokens else return calls end
end

-- A tombstone: the attempt is known for a while, what it held is not.
local function bury(prefix, name, state, cost)
  local key = prefix .. name
  call('DEL', key)
  call('HSET', key, 'st', state, 'cost', int(cost))
  call('PEXPIRE', key, int(ENDED_MS))
  put(closed, prefix .. 'open', name)
end

-- Concurrency slots are given back; token rates and paces that were advanced by the bound are corrected to the truth.
local function give_back(base, rid, rates, tokens, charges)
  for _, rate in ipairs(rates) do
    local key = base .. rate[1]
    if rate[2] == 'c' then
      put(closed, key, rid)
    elseif rate[2] == 'p' or rate[5] == 1 then
      local used, arrival = rate[2] == 'p' and charges[rate[5]][3] or tokens, arrival_of(key)
      if arrival.at and used ~= rate[4] then
        arrival.at, arrival.moved = arrival.at + rate[3] * (used - rate[4]), true
      end
    end
  end
end

-- A hold ends: the held amounts leave h, what is charged enters s. Checks first: h below the amount means the books are wrong, so stop.
local function release(prefix, workspace, base, rid, kind, record, cost, tokens, calls, payload)
  local held, charges, present = tonumber(record[2]), cmsgpack.unpack(record[3]), {}
  for i, c in ipairs(charges) do
    local counter = counter_of(base .. c[1])
    if counter.s and counter.h then
      present[i] = counter
      if counter.h < c[3] then
        call('HSET', base .. 'meta', 'state', 'corrupt')
        meta_of(base).state = 'corrupt'
        return { 'CORRUPT', c[1] }
      end
    else
      if c[3] > 0 or call('HEXISTS', base .. 'idx', c[1]) == 1 then return { 'NEED_REBUILD', c[1] } end
      present[i] = false  -- nothing was held on it, and its period is long over
    end
  end
  for i, c in ipairs(charges) do  -- from here on what is charged, not what was held
    local charged = 0
    if kind == 'expire' then charged = c[3] elseif kind == 'settle' then charged = actual(c[2], cost, tokens, calls) end
    if present[i] then add(present[i], charged, -c[3]) end
    c[3] = charged
  end
  if kind == 'expire' then cost = held elseif kind == 'void' then cost, tokens = 0, 0 end
  if kind ~= 'expire' then give_back(base, rid, cmsgpack.unpack(record[4]), tokens, charges) end
  local seq, name = emit(prefix, workspace, kind, rid, cost, held, charges, record[5], payload), 'w:' .. workspace .. ':r:' .. rid
  if kind == 'expire' then
    call('HSET', prefix .. name, 'st', 'X', 'cost', int(cost))
    call('PEXPIRE', prefix .. name, int(LATE_MS))
    put(closed, prefix .. 'open', name)
    return { 'OK', seq, 'X' }
  end
  local state = kind == 'settle' and 'S' or 'V'
  bury(prefix, name, state, cost)
  return { 'OK', seq, state }
end

-- The truth about an attempt that was charged at its hold: one signed correction.
local function correct(prefix, workspace, base, rid, kind, record, cost, tokens, calls, payload)
  local held, charges, present = tonumber(record[2]), cmsgpack.unpack(record[3]), {}
  if kind == 'void' then cost, tokens, calls = 0, 0, 0 end
  for i, c in ipairs(charges) do
    local counter = counter_of(base .. c[1])
    present[i] = counter.s and counter.h and counter
    if not present[i] and call('HEXISTS', base .. 'idx', c[1]) == 1 then return { 'NEED_REBUILD', c[1] } end
  end
  for i, c in ipairs(charges) do
    c[3] = actual(c[2], cost, tokens, calls) - c[3]
    if present[i] then add(present[i], c[3], 0) end
  end
  local seq = emit(prefix, workspace, 'adjust', rid, cost - held, held, charges, record[5], payload)
  local state = kind == 'void' and 'V' or 'S'
  bury(prefix, 'w:' .. workspace .. ':r:' .. rid, state, cost)
  return { 'OK', seq, state }
end

local function finish(prefix, workspace, rid, kind, cost, tokens, calls, payload)
  local base = base_of(prefix, workspace)
  local meta, stop = open_for_ends(base)
  if stop then return stop end
  local record = call('HMGET', base .. 'r:' .. rid, 'st', 'amt', 'bk', 'rt', 'ctx')
  if not record[1] then
    if kind ~= 'void' then return { 'UNKNOWN' } end
    bury(prefix, 'w:' .. workspace .. ':r:' .. rid, 'V', 0)  -- an admit that is still under way will find this and be a DUPLICATE
    return { 'OK', 0, 'V' }
  end
  if record[1] == 'H' then
    if kind == 'late' then return { 'OPEN' } end
    return release(prefix, workspace, base, rid, kind, record, cost, tokens, calls, payload)
  end
  if record[1] == 'X' and kind ~= 'expire' then
    return correct(prefix, workspace, base, rid, kind, record, cost, tokens, calls, payload)
  end
  return { 'ALREADY', record[1], meta.seq }
end
