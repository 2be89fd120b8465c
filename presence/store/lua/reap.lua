-- reap.lua removes sessions of a dead epoch and notes when their users were last seen: the end of its lease. Sessions that
-- moved to another epoch stay.
-- KEYS: 1 meta  2 session index of the epoch  then for each session: the user, the mailbox, the
--       last-seen bucket
-- ARGV: 1 epoch  2 end of the lease, unix s  3 number of buckets  4 for how long what waits is kept, ms
--       then for each session: entry in the index, device, user in the bucket, hash of the device
-- Returns the number removed, negative minus 1 if a bucket should be split; "B<n>": there are n buckets, nothing was done.
local buckets = redis.call('HGET', KEYS[1], 'b') or '1'
if buckets ~= ARGV[3] then return 'B' .. buckets end
local removed, split = 0, false
local prefix = ARGV[1] .. '.'
for i = 0, (#KEYS - 2) / 3 - 1 do
  local user, device = KEYS[3 + 3 * i], ARGV[6 + 4 * i]
  local field, box = 's' .. device, open(user)
  local session = box[field]
  if session and string.sub(session, 1, #prefix) == prefix then
    redis.call('HDEL', user, field)
    depart(user, KEYS[4 + 3 * i], device, box, tonumber(ARGV[2]) * 1000, tonumber(ARGV[4]))
    if note(KEYS[5 + 3 * i], ARGV[7 + 4 * i], tonumber(ARGV[2]), tonumber(ARGV[8 + 4 * i])) then split = true end
    removed = removed + 1
  end
  redis.call('HDEL', KEYS[2], ARGV[5 + 4 * i])
end
if split then return -removed - 1 end
return removed
