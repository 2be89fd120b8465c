-- join.lua gives a fresh epoch a lease, and ends those that earlier epochs of the same pod hold.
-- ARGV: 6 epoch  7 pod UID  8 record  9 grace, ms
-- Returns the ended epochs after the reply.
if redis.call('ZSCORE', KEYS[4], ARGV[7]) then return reply('BANNED') end
local r = reply('OK')
if ARGV[7] ~= '' then
  local records = redis.call('HGETALL', KEYS[3])
  for i = 1, #records, 2 do
    local flag, uid = string.match(records[i + 1], '^([+=-])%d+ (%S*) ')
    if uid == ARGV[7] and flag == '+' then
      cut(records[i], records[i + 1], tonumber(ARGV[9]))
      r[#r + 1] = records[i]
    end
  end
end
redis.call('ZADD', KEYS[2], int(now + tonumber(ARGV[4])), ARGV[6])
redis.call('HSET', KEYS[3], ARGV[6], '+' .. int(now) .. ' ' .. ARGV[7] .. ' ' .. ARGV[8])
return r
