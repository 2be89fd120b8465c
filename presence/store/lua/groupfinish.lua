-- groupfinish.lua notes that every member of a group has a message.
-- KEYS: 1 ids of messages
-- ARGV: 1 id of the message
local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not score or tonumber(score) % 2 == 1 then return 0 end
redis.call('ZINCRBY', KEYS[1], 1, ARGV[1])
return 1
