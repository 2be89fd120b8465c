-- groupclaim.lua notes that a user owns a group, unless the user owns too many.
-- KEYS: 1 groups of the user  2 there while they were looked at not long ago
-- ARGV: 1 group  2 most, 0: any number  3 for how long a look holds, ms  4 most groups to look at
-- Returns "OK"; "FULL", with groups to look at unless that was done not long ago: the user may not own them any more.
local most = tonumber(ARGV[2])
if most > 0 and redis.call('ZCARD', KEYS[1]) >= most and not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  if redis.call('SET', KEYS[2], '', 'NX', 'PX', ARGV[3]) then
    return {'FULL', redis.call('ZRANDMEMBER', KEYS[1], ARGV[4])}
  end
  return {'FULL'}
end
redis.call('ZADD', KEYS[1], 0, ARGV[1])
return {'OK'}
