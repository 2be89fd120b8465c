-- hookclaim.lua takes or renews the lease of the one who tells the hooks' receiver about a partition. ttl 0 gives it up.
-- KEYS: 1 lease
-- ARGV: 1 claimant  2 ttl, ms  3 name for what the receiver was told, if nothing is known of it  4 longest ttl, ms
-- Returns the name of what it was told, how often doubts came in late, and 1 if the claimant has the lease now.
local time = redis.call('TIME')
local ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local lease = redis.call('HMGET', KEYS[1], 'o', 'u', 'e', 'd')
if lease[1] and lease[1] ~= ARGV[1] then
  -- A deadline further away than any lease was given by a clock that has been set back.
  local left = tonumber(lease[2]) - ms
  if left > 0 and left <= tonumber(ARGV[4]) then return {lease[3] or '', lease[4] or '0', 0} end
end
if ARGV[2] == '0' then
  if lease[1] == ARGV[1] then redis.call('HDEL', KEYS[1], 'o', 'u') end
  return {lease[3] or '', lease[4] or '0', 0}
end
local name = lease[3] or ARGV[3]
redis.call('HSET', KEYS[1], 'o', ARGV[1], 'u', string.format('%.0f', ms + tonumber(ARGV[2])), 'e', name)
return {name, lease[4] or '0', 1}
