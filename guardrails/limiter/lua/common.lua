-- Put in front of every script. Numbers are doubles, exact to 2^53: print them with int(), add them with HINCRBY where they may be more.
-- All of this runs with every call: a function costs a quarter of a microsecond to make, so what only a rare way needs is made on that way.
local SKEW_MS = 5000                  -- two clocks must agree to this before money moves on their word
local LATE_MS = 48 * 3600 * 1000      -- how long an expired hold can still be corrected by the truth
local ENDED_MS = 3600 * 1000          -- how long a settled or void attempt is remembered: far beyond any admit that the clock fence lets in
local RETIRE_MS = LATE_MS + 3600 * 1000
local EXACT = 2 ^ 53

local call, format = redis.call, string.format
local clock = call('TIME')
local now_us = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local now = math.floor(now_us / 1000)

-- Of whole numbers.
local function int(n) return format('%d', n) end

local function skewed(gateway_now) return math.abs(now - gateway_now) > SKEW_MS end

-- Which process of the store this is, and how full its memory is, in percent. Asking costs 130 us, so the answer is kept for 20 ms, less than a
-- restart takes; in a copy that is put back it is long over.
local run, memory_percent
do
  local key = string.match(KEYS[1], '^(.*:)[^:]+$') .. 'vitals'
  local kept = call('GET', key)
  if not kept then
    local memory = call('INFO', 'memory')
    local limit = tonumber(string.match(memory, '\nmaxmemory:(%d+)') or 0)
    local used = limit > 0 and math.floor(tonumber(string.match(memory, '\nused_memory:(%d+)')) * 100 / limit) or 0
    kept = string.match(call('INFO', 'server'), '\nrun_id:(%w+)') .. ':' .. used
    call('SET', key, kept, 'PX', 20)
  end
  run, memory_percent = string.match(kept, '^(%w+):(%d+)$')
  memory_percent = tonumber(memory_percent)
end

local function base_of(prefix, workspace) return prefix .. 'w:' .. workspace .. ':' end

-- What the calls of one script call share is read once and written once, by flush(), which scripts.py puts at the end of every script, also after
-- an error. A script is atomic, so nobody sees the difference; each key that flush() writes was read before with a command of its type, so that
-- it can fail only where the reading has failed. meta {state, epoch, seq, ver, n, run, idx}; counter {s, h, ds, dh}; arrival {at}.
local metas, counters, arrivals, opened, closed, freed = {}, {}, {}, {}, {}, {}

local function meta_of(base)
  local meta = metas[base]
  if not meta then
    local row = call('HMGET', base .. 'meta', 'state', 'epoch', 'seq', 'ver', 'n', 'run')
    meta = { state = row[1], epoch = tonumber(row[2] or nil), seq = tonumber(row[3] or nil), ver = tonumber(row[4] or nil),
      n = tonumber(row[5] or nil), run = row[6], idx = nil, told = false }
    metas[base] = meta
  end
  return meta
end

-- A counter that is not there has no s, or no h.
local function counter_of(key)
  local counter = counters[key]
  if not counter then
    local pair = call('HMGET', key, 's', 'h')
    counter = { s = tonumber(pair[1] or nil), h = tonumber(pair[2] or nil), ds = 0, dh = 0, listed = nil }
    counters[key] = counter
  end
  return counter
end

local function add(counter, settled, held)
  counter.s, counter.ds = counter.s + settled, counter.ds + settled
  counter.h, counter.dh = counter.h + held, counter.dh + held
end

-- When a rate's next call may come; at is nil where nobody has called for long.
local function arrival_of(key)
  local arrival = arrivals[key]
  if not arrival then
    arrival = { at = tonumber(call('GET', key) or nil), px = nil }
    arrivals[key] = arrival
  end
  return arrival
end

-- Arguments of one command on a key, collected.
local function put(lists, key, first, second)
  local list = lists[key]
  if list then
    list[#list + 1] = first
    list[#list + 1] = second
  else
    lists[key] = { first, second }
  end
end

-- Once: who goes on after it begins with empty tables (sweep.lua).
local function flush()
  for key, counter in pairs(counters) do
    local s, h, ds, dh = counter.s, counter.h, counter.ds, counter.dh
    if ds ~= 0 and dh ~= 0 and math.max(s, s - ds, h, h - dh) < EXACT and math.min(s, s - ds, h, h - dh) > -EXACT then
      call('HSET', key, 's', int(s), 'h', int(h))
    else  -- added, not set: past 2^53 the sum is exact only in the store
      if ds ~= 0 then call('HINCRBY', key, 's', int(ds)) end
      if dh ~= 0 then call('HINCRBY', key, 'h', int(dh)) end
    end
  end
  for base, meta in pairs(metas) do
    if meta.newer then call('HSET', base .. 'meta', 'ver', int(meta.ver)) end
    if meta.told then call('HSET', base .. 'meta', 'seq', int(meta.seq)) end
  end
  for key, arrival in pairs(arrivals) do
    if arrival.px then
      call('SET', key, format('%.17g', arrival.at), 'PX', int(arrival.px))
    elseif arrival.moved then
      call('SET', key, format('%.17g', arrival.at), 'KEEPTTL')
    end
  end
  for key, list in pairs(opened) do
    for first = 1, #list, 400 do call('ZADD', key, unpack(list, first, math.min(first + 399, #list))) end
  end
  for key, list in pairs(closed) do
    for first = 1, #list, 400 do call('ZREM', key, unpack(list, first, math.min(first + 399, #list))) end
  end
  for key, lease in pairs(freed) do call('PEXPIRE', key, int(lease * 2)) end
end

-- Runs the work of a script; whatever happens, what was decided so far is written.
local function surely(work)
  local fine, result = pcall(work)
  flush()
  if not fine then error(result, 0) end
  return result
end

-- Whether holds may be ended, renewed and corrected: -> meta, and the answer where they may not.
local function open_for_ends(base)
  local meta = meta_of(base)
  if not meta.state then return meta, { 'NEED_REBUILD', 'meta' } end
  if meta.state == 'rebuilding' or meta.state == 'corrupt' then return meta, { 'STATE', meta.state } end
  if meta.run ~= run then return meta, { 'STATE', 'restarted' } end
  return meta, nil
end

-- One event with the workspace's next gapless seq. Charges become JSON: suffixes and units are made by billing/domain/keys.py and need no escape.
-- Only re-ratings name their leg: the other kinds have theirs.
local function emit(prefix, workspace, kind, rid, cost, held, charges, ctx, payload, leg)
  local meta, parts = meta_of(base_of(prefix, workspace)), {}
  local seq = (meta.seq or 0) + 1
  meta.seq, meta.told = seq, true
  for i, c in ipairs(charges) do parts[i] = '["' .. c[1] .. '","' .. c[2] .. '",' .. int(c[3]) .. ']' end
  local tail = payload and payload ~= '' and { 'p', payload } or {}
  if leg then tail[#tail + 1], tail[#tail + 2] = 'l', int(leg) end
  call('XADD', prefix .. 'out', '*', 'k', kind, 'w', workspace, 'q', int(seq), 'r', rid, 't', int(now), 'c', int(cost), 'h', int(held),
    'b', '[' .. table.concat(parts, ',') .. ']', 'x', ctx, unpack(tail))
  return seq
end

-- A counter that never was starts at zero, is listed in the index, and is counted in meta.n: a later loss of any of the three shows.
local function open_counter(prefix, workspace, suffix, held, period_end, label)
  local base = base_of(prefix, workspace)
  call('HSET', base .. suffix, 's', '0', 'h', int(held))
  if label and label ~= '' then call('HSET', base .. suffix, 'v', label) end
  call('HSET', base .. 'idx', suffix, int(period_end))
  call('HINCRBY', base .. 'meta', 'n', 1)
  call('ZADD', prefix .. 'due', int(period_end + RETIRE_MS), 'w:' .. workspace .. ':' .. suffix)
end

-- A call that runs occupies its slots until its lease ends.
local function occupy(base, suffix, rid, lease)
  local key = base .. suffix
  put(opened, key, int(now + lease), rid)
  freed[key] = math.max(lease, freed[key] or 0)
end

local function record_hold(prefix, workspace, rid, amount, charges, rates, at, lease, ctx)
  local name, deadline = 'w:' .. workspace .. ':r:' .. rid, int(now + lease)
  call('HSET', prefix .. name, 'st', 'H', 'amt', int(amount), 'bk', cmsgpack.pack(charges), 'rt', cmsgpack.pack(rates), 'at', int(at), 'dl', deadline,
    'ctx', ctx)
  put(opened, prefix .. 'open', deadline, name)
end
