-- groupclaim.lua notes that a user owns a group, unless the user owns too many.
-- KEYS: 1 groups of the user  2 claims of the last minute -> when, unix ms; "\0" -> when claims were looked at last
-- ARGV: 1 group  2 most, 0: any number  3 for how long a look holds, and a claim is taken for good, ms  4 most groups to look at
-- Returns "OK"; "FULL", with groups to look at unless that was done not long ago: the user may not own them any more.
local most, hold = tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local function recent(id)
  local at = tonumber(redis.call('ZSCORE', KEYS[2], id) or '0')
  return at > ms - hold
end
local function note(id)
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', ms - hold))
  redis.call('ZADD', KEYS[2], string.format('%.0f', ms), id)
  redis.call('PEXPIRE', KEYS[2], hold)
end
if most > 0 and redis.call('ZCARD', KEYS[1]) >= most and not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  if recent('\0') then return {'FULL'} end
  note('\0')
  local old = {}
  -- What was claimed a moment ago is perhaps being made.
  for _, id in ipairs(redis.call('ZRANDMEMBER', KEYS[1], ARGV[4])) do
    if not recent(id) then old[#old + 1] = id end
  end
  return {'FULL', old}
end
redis.call('ZADD', KEYS[1], 0, ARGV[1])
note(ARGV[1])
return {'OK'}
