-- reassert.lua registers a session again after a data loss or under a new epoch: where there is none, where it is the same
-- connection, or an older session.
-- KEYS: 4 mailbox  5 revocations of the user  6 ring of the mailbox
-- ARGV: 7 platform  8 token id  9 when the token was issued, unix ms; empty: not known  10 since, base 36
--       11 hash of the device
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
put(session, epoch)
keep(there, sessions)
return '+'
