-- renew: an attempt that is still running keeps its hold. ARGV: one packed {prefix, workspace, rid, lease} each.
local function renew(prefix, workspace, rid, lease)
  local base = base_of(prefix, workspace)
  local _, stop = open_for_ends(base)
  if stop then return stop end
  local record = redis.call('HMGET', base .. 'r:' .. rid, 'st', 'rt')
  if not record[1] then return { 'UNKNOWN' } end
  if record[1] ~= 'H' then return { 'ALREADY', record[1] } end
  redis.call('HSET', base .. 'r:' .. rid, 'dl', int(now + lease))
  redis.call('ZADD', prefix .. 'open', int(now + lease), 'w:' .. workspace .. ':r:' .. rid)
  for _, rate in ipairs(cmsgpack.unpack(record[2])) do
    if rate[2] == 'c' then occupy(base, rate[1], rid, lease) end
  end
  return { 'OK' }
end

local replies = {}
for i = 1, #ARGV do
  local item = cmsgpack.unpack(ARGV[i])
  replies[i] = renew(item[1], item[2], item[3], item[4])
end
return replies
