-- reap.lua removes sessions of a dead epoch and notes when their users were last seen: the end of its lease. Sessions that
-- moved to another epoch stay. That the epoch is dead was told before (dead.lua), which is when its sessions ended.
-- KEYS: 1 meta  2 session index of the epoch  3 index of invisible users  then for each session: the user, the mailbox, the
--       last-seen bucket
-- ARGV: 1 epoch  2 number of buckets  3 for how long what waits is kept, ms
--       then for each session: entry in the index, device, user in the bucket, hash of the device
-- Returns the number removed, negative minus 1 if a bucket should be split; "B<n>": there are n buckets, nothing was done; "A"
-- the epoch is alive.
local meta = redis.call('HMGET', KEYS[1], 'b', 'x:' .. ARGV[1])
local buckets = meta[1] or '1'
if buckets ~= ARGV[2] then return 'B' .. buckets end
local last = tonumber(string.match(meta[2] or '', '^d(%d+)$'))
if not last then return 'A' end
local removed, split = 0, false
local prefix = ARGV[1] .. '.'
for i = 0, (#KEYS - 3) / 3 - 1 do
  local user, entry, device = KEYS[4 + 3 * i], ARGV[4 + 4 * i], ARGV[5 + 4 * i]
  local field, box = 's' .. device, open(user)
  local session = box[field]
  if session and string.sub(session, 1, #prefix) == prefix then
    local ended = math.max(last, tonumber(string.match(session, '^[^.]*%.[^.]*%.(%w*)') or '', 36) or 0)
    redis.call('HDEL', user, field)
    depart(user, KEYS[5 + 3 * i], device, box, ended, tonumber(ARGV[3]), KEYS[3], entry)
    if note(KEYS[6 + 3 * i], ARGV[6 + 4 * i], math.floor(ended / 1000), tonumber(ARGV[7 + 4 * i]), box.t) then split = true end
    removed = removed + 1
  end
  redis.call('HDEL', KEYS[2], entry)
end
if split then return -removed - 1 end
return removed
