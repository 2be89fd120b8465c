-- reassert.lua registers a session again after a data loss or under a new epoch: where there is none, where it is the same
-- connection, or an older session.
-- ARGV: 7 platform  8 since, base 36
-- Returns "+"; "N": a newer session is there; "X" fenced; "L" too late.
local old = redis.call('HGET', KEYS[1], field)
local epoch, conn, since
if old then
  epoch, conn, since = parse(old)
  local theirs, ours = tonumber(since or '0', 36) or 0, tonumber(ARGV[8], 36)
  if theirs > ours and not (epoch == ARGV[1] and conn == ARGV[2]) then return 'N' end
end
local session = ARGV[1] .. '.' .. ARGV[2] .. '.' .. ARGV[8]
if ARGV[7] ~= '' then session = session .. '.' .. ARGV[7] end
put(session, epoch)
return '+'
