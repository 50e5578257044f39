-- sweep one partition: holds nobody came back for are charged at the hold, counters of long-ended periods leave.
-- ARGV: sweeper's now (ms), partition prefix, most holds, grace (ms). A jumping clock expires nothing.
local gateway_now, prefix, most, grace = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
if skewed(gateway_now) then return { 'CLOCK_SKEW', 0, 0, 0 } end

local function expire_due()
  local expired, failed = 0, 0
  local due = redis.call('ZRANGEBYSCORE', prefix .. 'open', '-inf', int(now - grace), 'LIMIT', 0, most)
  for _, member in ipairs(due) do
    local workspace, rid = string.match(member, '^w:(%d+):r:(.+)$')
    local fine, reply = pcall(finish, prefix, workspace, rid, 'expire', 0, 0, 0, '')
    local outcome = fine and reply[1] or 'ERROR'
    if outcome == 'OK' then
      expired = expired + 1
    elseif outcome == 'ALREADY' or outcome == 'UNKNOWN' then
      redis.call('ZREM', prefix .. 'open', member)
    else  -- waits for a rebuild; do not let it stand in the way of the others
      failed = failed + 1
      redis.call('ZADD', prefix .. 'open', int(now + 5000), member)
    end
  end
  return expired, failed
end

local function retire_due()
  local retired = 0
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'due', '-inf', int(now), 'LIMIT', 0, most)) do
    local workspace, suffix = string.match(member, '^w:(%d+):(b:.+)$')
    local base = base_of(prefix, workspace)
    local held = tonumber(redis.call('HGET', base .. suffix, 'h') or 0)
    local state = redis.call('HGET', base .. 'meta', 'state')
    if held > 0 or state == 'rebuilding' or state == 'corrupt' then
      redis.call('ZADD', prefix .. 'due', int(now + 3600000), member)
    else
      redis.call('DEL', base .. suffix)
      if redis.call('HDEL', base .. 'idx', suffix) == 1 and state then redis.call('HINCRBY', base .. 'meta', 'n', -1) end
      redis.call('ZREM', prefix .. 'due', member)
      retired = retired + 1
    end
  end
  return retired
end

local expired, failed = expire_due()
flush()
metas, counters, arrivals, opened, closed, freed = {}, {}, {}, {}, {}, {}  -- what follows reads the counters from the store
return { 'OK', expired, failed, retire_due() }
