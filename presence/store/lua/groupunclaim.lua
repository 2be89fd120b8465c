-- groupunclaim.lua forgets that a user owns groups, but not what was claimed a moment ago: it is perhaps being made.
-- KEYS: 1 groups of the user  2 claims of the last minute
-- ARGV: 1 for how long a claim is taken for good, ms  then the groups
local time = redis.call('TIME')
local ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
for i = 2, #ARGV do
  local at = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[i]) or '0')
  if at <= ms - tonumber(ARGV[1]) then redis.call('ZREM', KEYS[1], ARGV[i]) end
end
return redis.status_reply('OK')
