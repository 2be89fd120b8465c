-- restore.lua enters an epoch again that a table knew which was lost.
-- ARGV: 6 epoch  7 pod UID  8 record  9 for how long it has its lease yet, ms  10 generation of the table that is meant
if gen == ARGV[10] and not redis.call('ZSCORE', KEYS[2], ARGV[6]) then
  redis.call('ZADD', KEYS[2], int(now + tonumber(ARGV[9])), ARGV[6])
  redis.call('HSET', KEYS[3], ARGV[6], '+' .. int(now) .. ' ' .. ARGV[7] .. ' ' .. ARGV[8])
end
return reply('OK')
