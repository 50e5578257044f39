-- finish: settle | void | expire | late, one packed request a call. Idempotent. May use the memory that admits leave free.
local replies = {}
for i = 1, #ARGV do
  local item = cmsgpack.unpack(ARGV[i])
  local fine, reply = pcall(finish, item[1], item[2], item[3], item[4], item[5], item[6], item[7], item[8])
  replies[i] = fine and reply or { 'ERROR', tostring(reply) }
end
return replies
