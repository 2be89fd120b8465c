-- buried.lua notes that the sessions of a dead epoch were reaped, or forgets the epoch.
-- ARGV: 6 epoch  7 "1": forget it
local deadline = redis.call('ZSCORE', KEYS[2], ARGV[6])
if not deadline or tonumber(deadline) > now then return reply('OK') end
if ARGV[7] == '1' then
  redis.call('ZREM', KEYS[2], ARGV[6])
  redis.call('HDEL', KEYS[3], ARGV[6])
else
  local record = redis.call('HGET', KEYS[3], ARGV[6])
  if record then redis.call('HSET', KEYS[3], ARGV[6], '=' .. string.sub(record, 2)) end
end
return reply('OK')
