-- renew.lua renews a lease, or gives it its end. It never revives one that has ended. A table of another generation than
-- the caller knew is one whose data was lost: the same epoch is then entered again, since sessions carry it.
-- ARGV: 6 epoch  7 generation that the caller knows  8 pod UID  9 record  10 linger, ms: this is the end; empty: renew
if redis.call('ZSCORE', KEYS[4], ARGV[8]) then return reply('BANNED') end
local deadline = redis.call('ZSCORE', KEYS[2], ARGV[6])
if deadline then
  local record = redis.call('HGET', KEYS[3], ARGV[6])
  if tonumber(deadline) <= now or not record or string.sub(record, 1, 1) ~= '+' then return reply('FENCED') end
elseif gen == ARGV[7] then
  return reply('FENCED')
end
local flag, last = '+', now + tonumber(ARGV[4])
if ARGV[10] ~= '' then
  flag, last = '-', now + tonumber(ARGV[10])
end
redis.call('ZADD', KEYS[2], int(last), ARGV[6])
redis.call('HSET', KEYS[3], ARGV[6], flag .. int(now) .. ' ' .. ARGV[8] .. ' ' .. ARGV[9])
return reply('OK')
