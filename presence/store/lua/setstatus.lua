-- setstatus.lua sets the status of a user, for a gateway that has a session of the user, or for the API, whose epoch and
-- connection are empty.
-- KEYS: 4 mailbox  5 ring of the mailbox  6 last-seen bucket
-- ARGV: 7 earlier epoch of the caller  8 letter of the status  9 its text  10 user in the bucket
--       11 number of buckets that 6 follows from  12 for how long a user without sessions is kept, ms
-- Returns "+<set at, base 36>{ <other epoch that has sessions of the user>}"; "N" the session is not the caller's any more; "W" try
-- again, see status.lua; "B<n>" there are n buckets, nothing was done; "X" fenced; "L" too late.
local buckets = meta[3] or '1'
if buckets ~= ARGV[11] then return 'B' .. buckets end
local box, there, sessions = open(KEYS[1], KEYS[4], KEYS[5])
if ARGV[2] ~= '' then
  local epoch, conn = parse(box[field] or '')
  if conn ~= ARGV[2] or (epoch ~= ARGV[1] and epoch ~= ARGV[7]) then return 'N' end
end
local done = setStatus(box, ARGV[8], ARGV[9], redis.call('HGET', KEYS[6], ARGV[10]))
if done == 'W' then return 'W' end
if done == '+' then fact(KEYS[2], feed, 'T' .. string.sub(ARGV[4], 1, -#ARGV[3] - 2) .. '\0' .. box.t) end
if sessions == 0 then
  local kept = tonumber(ARGV[12])
  -- If all that is known of the user is that there is no status, it is kept for as long as gateways may put back another.
  if string.find(box.t, '^o%w*%.%w*%.$') and next(box, next(box)) == nil then kept = 60000 end
  expire(KEYS[1], KEYS[4], ms + kept)
end
return '+' .. string.match(box.t, '^%a(%w*)') .. elsewhere(box)
