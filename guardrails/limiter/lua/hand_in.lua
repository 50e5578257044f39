-- hand_in: while a workspace is frozen, a gateway leaves what it knows of calls that the books may not have: holds, and how they ended.
-- Nothing is counted here; the rebuilder decides what was lost (handed_in.py). ARGV: prefix, workspace, epoch, gateway, "first" or "", "last" or "",
-- then one packed {hold, end or nil, sure} each. The last piece says that this was all.
local KEPT_MS = 3600 * 1000
local base, epoch, gateway = base_of(ARGV[1], ARGV[2]), ARGV[3], ARGV[4]
local meta = redis.call('HMGET', base .. 'meta', 'state', 'epoch')
if meta[1] ~= 'rebuilding' or meta[2] ~= epoch then return { 'STALE', meta[2] } end
local list, said = base .. 'handed:' .. epoch .. ':' .. gateway, base .. 'said:' .. epoch
if ARGV[5] == 'first' then redis.call('DEL', list) end
for i = 7, #ARGV do redis.call('RPUSH', list, ARGV[i]) end
redis.call('PEXPIRE', list, KEPT_MS)
if ARGV[6] == 'last' then
  redis.call('HSET', said, gateway, #ARGV - 6)
  redis.call('PEXPIRE', said, KEPT_MS)
end
return { 'OK' }
