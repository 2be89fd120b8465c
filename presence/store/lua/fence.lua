-- fence.lua ends leases: cut to the last renewal plus the grace, and not renewable. It bans pods, and ends what they hold.
-- ARGV: 6 grace, ms  7 number of epochs  then the epochs, then the pod UIDs to ban
-- Returns the epochs of the request that the table knows after the reply.
local n, grace = tonumber(ARGV[7]), tonumber(ARGV[6])
local r = reply('OK')
for i = 8, 7 + n do
  local record = redis.call('HGET', KEYS[3], ARGV[i])
  if record then
    cut(ARGV[i], record, grace)
    r[#r + 1] = ARGV[i]
  end
end
local banned = {}
for i = 8 + n, #ARGV do
  redis.call('ZADD', KEYS[4], int(now), ARGV[i])
  banned[ARGV[i]] = true
end
if next(banned) then
  local records = redis.call('HGETALL', KEYS[3])
  for i = 1, #records, 2 do
    if banned[string.match(records[i + 1], '^[+=-]%d+ (%S*) ')] then cut(records[i], records[i + 1], grace) end
  end
end
return r
