-- unregister.lua removes a session if it still is the one that the caller means, and notes when the user was last seen.
-- KEYS: 4 mailbox  5 last-seen bucket
-- ARGV: 7 earlier epoch of the caller  8 when it ended, unix ms  9 user in the bucket  10 number of buckets that 5 follows from
--       11 empty; else connection is empty, and any that registered at least so many ms ago is meant
--       12 for how long what waits is kept, ms  13 hash of the device  14 cause
--       15 when it ended, in base 36  16 "1": the device is not to be known any more
-- Returns "D" removed, "S" removed and the bucket should be split, "O" the same epoch has another connection there,
-- "N" not the caller's any more; "B<n>" there are n buckets, nothing was done; "X" fenced; "L" too late.
local buckets = meta[3] or '1'
if buckets ~= ARGV[10] then return 'B' .. buckets end
local box = open(KEYS[1])
local old = box[field]
local epoch, conn, since
if old then epoch, conn, since = parse(old) end
local own = epoch == ARGV[1] or (epoch and epoch == ARGV[7])
local same = conn == ARGV[2]
if ARGV[11] ~= '' and own then same = tonumber(since, 36) + tonumber(ARGV[11]) <= ms end
if own and same then
  redis.call('HDEL', KEYS[1], field)
  redis.call('HDEL', ARGV[6] .. epoch, ARGV[4])
  local gone = ARGV[16] == '1'
  depart(KEYS[1], KEYS[4], ARGV[3], box, ms, tonumber(ARGV[12]), hidden, ARGV[4], gone)
  local at = math.floor(tonumber(ARGV[8]) / 1000)
  local split, seen = note(KEYS[5], ARGV[9], at, tonumber(ARGV[13]), box.t, gone)
  -- Another device may have been seen later, by the clock of its gateway.
  fact(KEYS[2], feed, 'D' .. ARGV[4] .. '\0' .. (seen > at and base36(seen * 1000) or ARGV[15]) .. '\0' .. ARGV[14])
  return split and 'S' or 'D'
end
if epoch == ARGV[1] then return 'O' end
redis.call('HDEL', KEYS[3], ARGV[4])
return 'N'
