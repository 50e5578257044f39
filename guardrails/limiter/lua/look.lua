-- look: what a gateway must notice although nobody calls. ARGV: workspaces' bases. Answers the rebuilds that wait for gateways (workspace, epoch,
-- ...), then of each workspace {state, epoch, seq}.
local found = { redis.call('HGETALL', string.match(KEYS[1], '^(.*:)[^:]+$') .. 'asked') }
for i = 1, #ARGV do
  local meta = redis.call('HMGET', ARGV[i] .. 'meta', 'state', 'epoch', 'seq', 'run')
  local state = meta[1] or 'missing'
  if state ~= 'missing' and state ~= 'rebuilding' and meta[4] ~= run then state = 'restarted' end
  found[#found + 1] = { state, tonumber(meta[2] or 0), tonumber(meta[3] or 0) }
end
return found
