-- Put in front of every script. Numbers are doubles, exact to 2^53: print them with int(), add them with HINCRBY.
local SKEW_MS = 5000                  -- two clocks must agree to this before money moves on their word
local LATE_MS = 48 * 3600 * 1000      -- how long an expired hold can still be corrected by the truth
local ENDED_MS = 3600 * 1000          -- how long a settled or void attempt is remembered: far beyond any admit that the clock fence lets in
local RETIRE_MS = LATE_MS + 3600 * 1000

local clock = redis.call('TIME')
local now_us = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local now = math.floor(now_us / 1000)

local function int(n) return string.format('%.0f', n) end

local function exact(n) return string.format('%.17g', n) end

local function skewed(gateway_now) return math.abs(now - gateway_now) > SKEW_MS end

-- Which process of the store this is, and how full its memory is, in percent. Asking costs 130 us, so the answer is kept for 20 ms, less than a
-- restart takes; in a copy that is put back it is long over.
local function vitals()
  local key = string.match(KEYS[1], '^(.*:)[^:]+$') .. 'vitals'
  local kept = redis.call('GET', key)
  if not kept then
    local memory = redis.call('INFO', 'memory')
    local limit = tonumber(string.match(memory, '\nmaxmemory:(%d+)') or 0)
    local used = limit > 0 and math.floor(tonumber(string.match(memory, '\nused_memory:(%d+)')) * 100 / limit) or 0
    kept = string.match(redis.call('INFO', 'server'), '\nrun_id:(%w+)') .. ':' .. used
    redis.call('SET', key, kept, 'PX', 20)
  end
  local run, percent = string.match(kept, '^(%w+):(%d+)$')
  return run, tonumber(percent)
end
local run, memory_percent = vitals()

local function base_of(prefix, workspace) return prefix .. 'w:' .. workspace .. ':' end

-- Whether holds may be ended, renewed and corrected: -> state, seq, and the answer where they may not.
local function open_for_ends(base)
  local meta = redis.call('HMGET', base .. 'meta', 'state', 'seq', 'run')
  if not meta[1] then return nil, 0, { 'NEED_REBUILD', 'meta' } end
  if meta[1] == 'rebuilding' or meta[1] == 'corrupt' then return meta[1], 0, { 'STATE', meta[1] } end
  if meta[3] ~= run then return meta[1], 0, { 'STATE', 'restarted' } end
  return meta[1], tonumber(meta[2]), nil
end

-- The JSON of an event's charges. Suffixes and units are made by billing/domain/keys.py and need no escape.
local function charges_json(charges)
  local parts = {}
  for i, c in ipairs(charges) do parts[i] = '["' .. c[1] .. '","' .. c[2] .. '",' .. int(c[3]) .. ']' end
  return '[' .. table.concat(parts, ',') .. ']'
end

-- One event with the workspace's next gapless seq. Only re-ratings name their leg: the other kinds have theirs.
local function emit(prefix, workspace, kind, rid, cost, held, charges, ctx, payload, leg)
  local seq = redis.call('HINCRBY', base_of(prefix, workspace) .. 'meta', 'seq', 1)
  local event = { 'k', kind, 'w', workspace, 'q', int(seq), 'r', rid, 't', int(now), 'c', int(cost), 'h', int(held),
    'b', charges_json(charges), 'x', ctx }
  if payload and payload ~= '' then
    event[#event + 1] = 'p'
    event[#event + 1] = payload
  end
  if leg then
    event[#event + 1] = 'l'
    event[#event + 1] = int(leg)
  end
  redis.call('XADD', prefix .. 'out', '*', unpack(event))
  return seq
end

-- A counter that never was starts at zero, is listed in the index, and is counted in meta.n: a later loss of any of the three shows.
local function open_counter(prefix, workspace, suffix, held, period_end, label)
  local base = base_of(prefix, workspace)
  redis.call('HSET', base .. suffix, 's', '0', 'h', int(held))
  if label and label ~= '' then redis.call('HSET', base .. suffix, 'v', label) end
  redis.call('HSET', base .. 'idx', suffix, int(period_end))
  redis.call('HINCRBY', base .. 'meta', 'n', 1)
  redis.call('ZADD', prefix .. 'due', int(period_end + RETIRE_MS), 'w:' .. workspace .. ':' .. suffix)
end

-- A call that runs occupies its slots until its lease ends.
local function occupy(base, suffix, rid, lease)
  redis.call('ZADD', base .. suffix, int(now + lease), rid)
  redis.call('PEXPIRE', base .. suffix, int(lease * 2))
end

local function record_hold(prefix, workspace, rid, amount, charges, rates, at, lease, ctx)
  local base = base_of(prefix, workspace)
  redis.call('HSET', base .. 'r:' .. rid, 'st', 'H', 'amt', int(amount), 'bk', cmsgpack.pack(charges),
    'rt', cmsgpack.pack(rates), 'at', int(at), 'dl', int(now + lease), 'ctx', ctx)
  redis.call('ZADD', prefix .. 'open', int(now + lease), 'w:' .. workspace .. ':r:' .. rid)
end
