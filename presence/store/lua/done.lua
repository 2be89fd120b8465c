-- done.lua notes that an epoch has registered all its sessions, unless the partition lost its data meanwhile.
-- KEYS: 1 meta
-- ARGV: 1 epoch  2 the generation that it registered them in
if redis.call('HGET', KEYS[1], 'g') == ARGV[2] then
  redis.call('HSET', KEYS[1], 'done:' .. ARGV[1], ARGV[2])
end
return redis.status_reply('OK')
