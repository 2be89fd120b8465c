-- mailbox.lua goes before every script that touches mailboxes. Of a user's hash it uses: "h" number of the first message in
-- the list; "o" the first that was not dropped unread, where that is not h; "x" "<day>.<run of the server>" of the last
-- tending; "m" by how much the numbers were shifted last; "b" bytes of messages above their share; "s<device>" sessions;
-- "d<device>" "<acknowledged>.<day>" of devices, or "d\1<hash>" of one whose name was forgotten.
-- Numbers exceed what tostring writes in full.
local function int(n) return string.format('%.0f', n) end
local day = 86400000
-- Reads the hash of a user: its fields by name, whether there are any, and how many sessions.
local function open(user)
  local list, box, sessions = redis.call('HGETALL', user), {}, 0
  for i = 1, #list, 2 do
    box[list[i]] = list[i + 1]
    if string.byte(list[i]) == 115 then sessions = sessions + 1 end
  end
  return box, #list > 0, sessions
end
-- Splits the value of a device: the number that it acknowledged, and the day on which it was last seen.
local function cursor(value)
  local seq, seen = string.match(value or '', '^(%d+)%.(%d+)$')
  return tonumber(seq or '0'), tonumber(seen or '0')
end
-- Keeps a user and the mailbox, or forgets both at the same moment: of a mailbox that ends before its user the numbers
-- would begin again.
local function expire(user, mail, at)
  redis.call('PEXPIREAT', user, int(at))
  redis.call('PEXPIREAT', mail, int(at))
end
