-- read.lua reads a mailbox from a number on, but nothing that the device has acknowledged: its number may be one of before
-- the mailbox was renumbered, when everything would be read again.
-- KEYS: 1 user  2 mailbox
-- ARGV: 1 number  2 most records  3 most bytes, but one record at least  4 device
-- Returns the number of the first record, the tail, how many were dropped between, and the records.
local head = redis.call('HMGET', KEYS[1], 'h', 'o', 'd' .. ARGV[4], 'm')
local from, h, packed, _ = tonumber(ARGV[1]), head[1], nil, nil
if not h then
  h, _, packed = parcel(KEYS[2])
  if not h then return {int(from), '0', '0'} end
end
h = tonumber(h)
local read = cursor(head[3] or nil)
local first = math.max(from, read + 1, h)
-- Numbers leap by a million when a mailbox is renumbered. What was dropped is counted from where the number asked for is
-- now; not at all if that is older than the last time. 1 is before all mailboxes.
if from > 1 and from < h - 500000 then
  from = from + tonumber(head[4] or '0')
  if from < h - 500000 then from = h end
end
from = math.max(from, read + 1)
local reply = {int(first), int(h + (packed and #packed or redis.call('LLEN', KEYS[2])) - 1),
  int(math.max(0, h - math.max(from, tonumber(head[2] or nil) or h)))}
local bytes, records = 0, nil
if packed then
  records = {unpack(packed, first - h + 1, math.min(#packed, first - h + tonumber(ARGV[2])))}
else
  records = redis.call('LRANGE', KEYS[2], int(first - h), int(first - h + tonumber(ARGV[2]) - 1))
end
for i, record in ipairs(records) do
  bytes = bytes + #record
  if i > 1 and bytes > tonumber(ARGV[3]) then break end
  reply[#reply + 1] = record
end
return reply
