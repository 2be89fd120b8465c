-- groupcreate.lua makes a group.
-- ARGV: 1 owner  2 the call, so that it may be repeated  then the members
-- Returns the group; "EXISTS".
if created then
  if nonce == ARGV[2] then return repeated() end
  return {'EXISTS'}
end
local ms = clock()
owner, created = actor, int(ms)
change(ms)
redis.call('HSET', KEYS[1], 'o', owner, 'c', created, 'n', ARGV[2])
redis.call('PERSIST', KEYS[1])
redis.call('DEL', KEYS[2], KEYS[3])
each(3, function(first, last)
  local pairs = {}
  for i = first, last do
    pairs[#pairs + 1] = 0
    pairs[#pairs + 1] = ARGV[i]
  end
  redis.call('ZADD', KEYS[2], unpack(pairs))
end)
return reply()
