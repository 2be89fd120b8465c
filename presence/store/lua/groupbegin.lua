-- groupbegin.lua begins to send a message to a group, or tells that it was sent. The score of an id is twice the unix time,
-- and one more when every member has the message.
-- ARGV: 1 the sender  2 id of the message  3 version whose members the caller knows  4 ids that are kept  5 for how long, s
-- Returns "OK", the version, "1" if the message was sent, and the members unless they are known; "NONE", "FORBIDDEN".
if not created then return {'NONE'} end
if actor ~= '' and not isMember(actor) then return {'FORBIDDEN'} end
local score = redis.call('ZSCORE', KEYS[3], ARGV[2])
local seconds, keep = math.floor(clock() / 1000), tonumber(ARGV[5])
if score and tonumber(score) >= 2 * (seconds - keep) then
  if tonumber(score) % 2 == 1 then return {'OK', int(version), '1'} end
else
  redis.call('ZADD', KEYS[3], int(2 * seconds), ARGV[2])
  redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -1 - tonumber(ARGV[4]))
  redis.call('EXPIRE', KEYS[3], keep)
end
if int(version) == ARGV[3] then return {'OK', ARGV[3], '0'} end
return {'OK', int(version), '0', redis.call('ZRANGE', KEYS[2], 0, -1)}
