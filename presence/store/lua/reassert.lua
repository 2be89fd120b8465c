-- reassert.lua registers a session again after a data loss or under a new epoch: where there is none, where it is the same
-- connection, or an older session.
-- KEYS: 4 mailbox  5 revocations of the user  6 ring of the mailbox
-- ARGV: 7 platform  8 token id  9 when the token was issued, unix ms; empty: not known  10 since, base 36
--       11 hash of the device  12 address of the client, empty: not known
--       13 letter of the status to put back if there is none or an older one, if any  14 its text
--       15 when it was set, base 36
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
local changed = session ~= old
if ARGV[13] then
  local was, set, since = string.match(box.t or 'o..', '^(%a)(%w*)%.(%w*)')
  if not box.t or tonumber(set, 36) < tonumber(ARGV[15], 36) then
    if ARGV[13] ~= 'i' then
      since = ''
    elseif was ~= 'i' and sessions > 0 then
      -- Another gateway has put back that the user is seen, and others have seen it.
      since = base36(math.floor(ms / 1000))
    end
    -- Else: the data was lost, and with it when the user was last seen. To others, one who hides has never been.
    box.t = ARGV[13] .. ARGV[15] .. '.' .. since .. '.' .. ARGV[14]
    redis.call('HSET', KEYS[1], 't', box.t)
    if was == 'i' and ARGV[13] ~= 'i' then redis.call('HDEL', hidden, string.sub(ARGV[4], 1, -#ARGV[3] - 2)) end
    changed = true
  end
end
put(session, epoch, box.t)
if changed then tell(session, ARGV[12], box.t) end
keep(there, sessions)
return '+'
