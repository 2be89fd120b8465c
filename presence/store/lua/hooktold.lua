-- hooktold.lua notes what the hooks' receiver has been told. Who lost the lease meanwhile may have told it after the new owner
-- did: then it is in doubt, and the owner is made to tell it again.
-- KEYS: 1 lease  2 what the receiver was told
-- ARGV: 1 claimant  then pairs of user and "1" for online, "0" for offline
-- Returns 1, or 0 if the claimant has no lease.
local time = redis.call('TIME')
local ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local lease = redis.call('HMGET', KEYS[1], 'o', 'u')
local own = lease[1] == ARGV[1] and tonumber(lease[2]) > ms
for i = 2, #ARGV, 2 do
  if not own then
    redis.call('HSET', KEYS[2], ARGV[i], '?')
  elseif ARGV[i + 1] == '1' then
    redis.call('HSET', KEYS[2], ARGV[i], '')
  else
    redis.call('HDEL', KEYS[2], ARGV[i])
  end
end
if own then return 1 end
redis.call('HINCRBY', KEYS[1], 'd', 1)
return 0
