-- groupdelete.lua deletes a group.
-- ARGV: 2 the call, so that it may be repeated  3 for how long the version is kept, ms
-- Returns the group as it was; "NONE" there is none, "FORBIDDEN".
if not created then
  if nonce == ARGV[2] then
    created = '0'
    return repeated()
  end
  return {'NONE'}
end
if actor ~= '' and actor ~= owner then return {'FORBIDDEN'} end
change(clock())
local last = reply()
redis.call('HDEL', KEYS[1], 'o', 'c')
redis.call('HSET', KEYS[1], 'n', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('DEL', KEYS[2], KEYS[3])
return last
