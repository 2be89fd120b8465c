-- reassert.lua registers a session again after a data loss or under a new epoch: where there is none, where it is the same
-- connection, or an older session.
-- KEYS: 4 mailbox  5 revocations of the user  6 ring of the mailbox
-- ARGV: 7 platform  8 token id  9 when the token was issued, unix ms; empty: not known  10 since, base 36
--       11 hash of the device  12 address of the client, empty: not known
--       13 letter of the status to put back if there is none, if any  14 its text
-- Returns "+"; "N": a newer session is there; "R" revoked; "X" fenced; "L" too late.
if revoked(KEYS[5], ARGV[3], ARGV[8], ARGV[9]) then return 'R' end
local box, there, sessions = open(KEYS[1], KEYS[4], KEYS[6])
local old = box[field]
local epoch, conn, since
if old then
  epoch, conn, since = parse(old)
  local theirs, ours = tonumber(since or '0', 36) or 0, tonumber(ARGV[10], 36)
  if theirs > ours and not (epoch == ARGV[1] and conn == ARGV[2]) then return 'N' end
end
local session = ARGV[1] .. '.' .. ARGV[2] .. '.' .. ARGV[10]
if ARGV[7] ~= '' then session = session .. '.' .. ARGV[7] end
adopt(KEYS[1], box, ARGV[3], ARGV[11])
-- The data was lost, and with it when the user was last seen: to others, one who hides has never been.
if ARGV[13] and not box.t then
  box.t = ARGV[13] .. base36(ms) .. '..' .. ARGV[14]
  redis.call('HSET', KEYS[1], 't', box.t)
elseif session == old then
  session = nil
end
put(session or old, epoch, box.t)
if session then tell(session, ARGV[12], box.t) end
keep(there, sessions)
return '+'
