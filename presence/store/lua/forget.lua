-- forget.lua forgets users whose last seen is older than the retention and has not changed since it was read.
-- KEYS: 1 last-seen bucket
-- ARGV: pairs of user and time
local forgotten = 0
for i = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    forgotten = forgotten + redis.call('HDEL', KEYS[1], ARGV[i])
  end
end
return forgotten
