-- hooktell.lua notes that the hooks' receiver is about to be told about users: until it is confirmed, what the receiver
-- believes of them is in doubt, and whoever takes over tells it again.
-- KEYS: 1 lease  2 what the receiver was told: online users, and those in doubt
-- ARGV: 1 claimant  then the users
-- Returns the number of this telling, above all earlier ones of the partition; 0 if the claimant has no lease.
local time = redis.call('TIME')
local ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local lease = redis.call('HMGET', KEYS[1], 'o', 'u', 's')
if lease[1] ~= ARGV[1] or tonumber(lease[2]) <= ms then return 0 end
for i = 2, #ARGV do redis.call('HSET', KEYS[2], ARGV[i], '?') end
local number = math.max(ms * 1000, tonumber(lease[3] or '0') + 1)
redis.call('HSET', KEYS[1], 's', string.format('%.0f', number))
return number
