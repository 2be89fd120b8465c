-- register.lua puts a new session in the place of whatever the device had, and tells what waits in the mailbox.
-- KEYS: 4 mailbox  5 revocations of the user  6 ring of the mailbox  7 last-seen bucket
-- ARGV: 7 platform  8 token id  9 when the token was issued, unix ms; empty: not known  10 most sessions of a user
--       11 hash of the device  12 user in the bucket  13 number of buckets that 7 follows from  14 retention, s
--       15 address of the client, empty: not known  16 letter of the status to set, if one is  17 its text
-- Returns "+<since> <next> <tail> <missed> <session that was replaced> <status>", of which next is the first message due to the
-- device, and the status is missing if none is set; if one was to be set, "\0" and the other epochs that have sessions of the user,
-- each after a space, follow; "R" revoked; "T" too many sessions; "W" try again, see status.lua; "B<n>" there are n buckets,
-- nothing was done; "X" fenced; "L" too late.
if (meta[3] or '1') ~= ARGV[13] then return 'B' .. (meta[3] or '1') end
if revoked(KEYS[5], ARGV[3], ARGV[8], ARGV[9]) then return 'R' end
local box, there, sessions = open(KEYS[1], KEYS[4], KEYS[6])
-- What waits: the device's cursor tells. A new device starts after the newest message that any device has acknowledged,
-- and with the oldest if none has.
local function waiting()
  local own = 'd' .. ARGV[3]
  if not box[own] and not box[field] then
    local read = 0
    for other, value in pairs(box) do
      if string.byte(other) == 100 then read = math.max(read, (cursor(value))) end
    end
    if read > 0 then
      box[own] = int(read) .. '.' .. int(math.floor(ms / day))
      redis.call('HSET', KEYS[1], own, box[own])
    end
  end
  local h = tonumber(box.h)
  if not h then return ' 1 0 0 ' end
  local due = cursor(box[own]) + 1
  return ' ' .. int(math.max(due, h)) .. ' ' .. int(h + redis.call('LLEN', KEYS[4]) - 1) .. ' ' ..
    int(math.max(0, h - math.max(due, tonumber(box.o) or h))) .. ' '
end
local old = box[field]
local epoch, conn, since
if old then
  epoch, conn, since = parse(old)
  if epoch == ARGV[1] and conn == ARGV[2] then
    -- A repetition: the first reply was lost.
    put(old, nil, box.t)
    return '+' .. since .. waiting() .. (box.t and ' ' .. box.t or '') .. (ARGV[16] and '\0' .. elsewhere(box) or '')
  end
  ms = math.max(ms, (tonumber(since or '0', 36) or 0) + 1)
elseif sessions >= tonumber(ARGV[10]) then
  -- Those of gateways that were fenced do not count: the reaper is on its way.
  for other, session in pairs(box) do
    if string.byte(other) == 115 and redis.call('HEXISTS', KEYS[2], 'x:' .. parse(session)) == 1 then
      sessions = sessions - 1
    end
  end
  if sessions >= tonumber(ARGV[10]) then return 'T' end
end
if ARGV[16] and setStatus(box, ARGV[16], ARGV[17], redis.call('HGET', KEYS[7], ARGV[12])) == 'W' then return 'W' end
since = base36(ms)
local session = ARGV[1] .. '.' .. ARGV[2] .. '.' .. since
if ARGV[7] ~= '' then session = session .. '.' .. ARGV[7] end
adopt(KEYS[1], box, ARGV[3], ARGV[11])
-- Nobody is known: perhaps another device was, alone and without mail, and what came since is due to it as well.
local known = sessions > 0
for other in pairs(box) do known = known or string.byte(other) == 100 end
if not known then
  local entry = redis.call('HGET', KEYS[7], ARGV[12])
  if entry then
    local at, device = unpackSeen(entry, math.floor(ms / 1000) + window / 16)
    if device and device ~= tonumber(ARGV[11]) and at > ms / 1000 - tonumber(ARGV[14]) then
      redis.call('HSET', KEYS[1], 'd\1' .. int(device), '0.' .. int(math.floor(at * 1000 / day)))
    end
  end
end
put(session, epoch, box.t)
tell(session, ARGV[15], box.t)
keep(there, sessions)
return '+' .. since .. waiting() .. (old or '') .. (box.t and ' ' .. box.t or '') .. (ARGV[16] and '\0' .. elsewhere(box) or '')
