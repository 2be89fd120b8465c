-- groupbegin.lua begins to send a message to a group, or tells that it was sent. The score of an id is twice the unix time,
-- ms, of its beginning (of two in a millisecond the later one has a later time), and one more when every member has the
-- message.
-- ARGV: 1 the sender  2 id of the message  3 version whose members the caller knows  4 ids that are kept  5 for how long, ms
-- Returns "OK", the version, "1" if the message was sent, and the members unless they are known; "NONE", "FORBIDDEN".
if not created then return {'NONE'} end
if actor ~= '' and not isMember(actor) then return {'FORBIDDEN'} end
local score = redis.call('ZSCORE', KEYS[3], ARGV[2])
local ms, keep = clock(), tonumber(ARGV[5])
if score and tonumber(score) >= 2 * (ms - keep) then
  if tonumber(score) % 2 == 1 then return {'OK', int(version), '1'} end
else
  -- Before the new one: a listpack that has had too many entries never becomes one again.
  redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -tonumber(ARGV[4]))
  local last = redis.call('ZRANGE', KEYS[3], -1, -1, 'WITHSCORES')
  if last[2] then ms = math.max(ms, math.floor(tonumber(last[2]) / 2) + 1) end
  redis.call('ZADD', KEYS[3], int(2 * ms), ARGV[2])
  redis.call('PEXPIRE', KEYS[3], keep)
end
if int(version) == ARGV[3] then return {'OK', ARGV[3], '0'} end
return {'OK', int(version), '0', redis.call('ZRANGE', KEYS[2], 0, -1)}
