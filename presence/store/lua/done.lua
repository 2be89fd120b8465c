-- done.lua notes that an epoch has registered all its sessions, unless the partition lost its data meanwhile.
-- KEYS: 1 meta  2 feed
-- ARGV: 1 epoch  2 the generation that it registered them in
local field = 'done:' .. ARGV[1]
local known = redis.call('HMGET', KEYS[1], 'g', field)
if known[1] == ARGV[2] and known[2] ~= ARGV[2] then
  redis.call('HSET', KEYS[1], field, ARGV[2])
  fact(KEYS[1], KEYS[2], 'C' .. ARGV[1])
end
return redis.status_reply('OK')
