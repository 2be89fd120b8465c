-- dead.lua notes in a partition that an epoch is dead, and tells so: from now on nothing that it still sends is accepted, and its
-- sessions are over, whether or not they were removed.
-- KEYS: 1 meta  2 feed
-- ARGV: 1 epoch  2 end of its lease, unix ms  3 the same in base 36  4 cause
-- Returns 1; 0 if it was noted before.
local mark = 'x:' .. ARGV[1]
local known = redis.call('HGET', KEYS[1], mark)
if known and string.byte(known) == 100 then return 0 end
redis.call('HSET', KEYS[1], mark, 'd' .. ARGV[2])
fact(KEYS[1], KEYS[2], 'X' .. ARGV[1] .. '\0' .. ARGV[3] .. '\0' .. ARGV[4])
return 1
