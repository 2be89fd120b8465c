-- write.lua goes before every script by which a gateway writes sessions. It refuses writers that have ended: fenced ones by
-- a mark in the partition, others by the time, on this server's clock, up to which their lease surely lasts.
-- KEYS: 1 user  2 meta  3 session index of the epoch
-- ARGV: 1 epoch  2 connection, base 36  3 device  4 entry in the index  5 deadline, unix ms
--       6 prefix of session indexes
-- Leaves: ms (unix), meta (values of x:<epoch>, done:<epoch>, b), field.
local meta = redis.call('HMGET', KEYS[2], 'x:' .. ARGV[1], 'done:' .. ARGV[1], 'b')
if meta[1] then return 'X' end
local time = redis.call('TIME')
local ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
if ms >= tonumber(ARGV[5]) then return 'L' end
local field = 's' .. ARGV[3]
-- A session is "epoch.connection.since[.platform]", numbers in base 36.
local function parse(session)
  return string.match(session, '^([^.]*)%.([^.]*)%.([^.]*)')
end
-- Sets the session. The reaper finds epochs that the lease table lost by their done mark: it must exist.
local function put(session, old)
  if not meta[2] then redis.call('HSET', KEYS[2], 'done:' .. ARGV[1], '') end
  redis.call('HSET', KEYS[1], field, session)
  redis.call('HSET', KEYS[3], ARGV[4], '')
  if old and old ~= ARGV[1] then redis.call('HDEL', ARGV[6] .. old, ARGV[4]) end
end
-- Undoes the expiry of a user who had no session, and of the mailbox.
local function keep(there, sessions)
  if there and sessions == 0 then
    redis.call('PERSIST', KEYS[1])
    redis.call('PERSIST', KEYS[4])
  end
end
