-- write.lua goes before every script by which a gateway writes sessions. It refuses writers that have ended: fenced and dead
-- ones by a mark in the partition, others by the time, on this server's clock, up to which their lease surely lasts.
-- KEYS: 1 user  2 meta  3 session index of the epoch  the last two: feed, index of invisible users
-- ARGV: 1 epoch  2 connection, base 36  3 device  4 entry in the index  5 deadline, unix ms
--       6 prefix of session indexes
-- Leaves: ms (unix), meta (values of x:<epoch>, done:<epoch>, b, v), field, feed, hidden (keys).
--
-- Functions that a script does not need are not put before it: to make one takes 0.2 µs a call.
local meta = redis.call('HMGET', KEYS[2], 'x:' .. ARGV[1], 'done:' .. ARGV[1], 'b', 'v')
if meta[1] then return 'X' end
local time = redis.call('TIME')
local ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
if ms >= tonumber(ARGV[5]) then return 'L' end
local field = 's' .. ARGV[3]
local feed, hidden = KEYS[#KEYS - 1], KEYS[#KEYS]
-- A session is "epoch.connection.since[.platform]", numbers in base 36.
local function parse(session)
  return string.match(session, '^([^.]*)%.([^.]*)%.([^.]*)')
end
