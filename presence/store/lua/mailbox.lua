-- mailbox.lua goes before every script that touches mailboxes. Of a user's hash it uses: "h" number of the first message in
-- the list; "o" the first that was not dropped unread, where that is not h; "x" "<day>.<run of the server>" of the last
-- tending; "m" by how much the numbers were shifted last; "b" bytes of messages above their share; "s<device>" sessions;
-- "d<device>" "<acknowledged>.<day>" of devices, or "d\1<hash>" of one whose name was forgotten.
-- Numbers exceed what tostring writes in full.
local function int(n) return string.format('%.0f', n) end
local day = 86400000
-- Reads a parcel: the mailbox of a user who has no hash. It is a string, "<h>.<run of the server> ", then of each message
-- its length in 2 bytes, its sender in 2, and the record. Returns h, the run, the records, their ids as the ring has them, and
-- the string; false if there is no mailbox, and nil if it is a list.
local function parcel(mail)
  local packed = redis.pcall('GET', mail)
  if type(packed) == 'table' then return nil end
  if not packed then return false end
  local h, run, at = string.match(packed, '^(%d+)%.(%S*) ()')
  local records, ids = {}, {}
  while at < #packed do
    local high, low = string.byte(packed, at, at + 1)
    local last = at + 3 + high * 256 + low
    records[#records + 1] = string.sub(packed, at + 4, last)
    ids[#ids + 1] = string.sub(packed, at + 12, at + 19) .. string.sub(packed, at + 2, at + 3)
    at = last + 1
  end
  return h, run, records, ids, packed
end
-- Reads the hash of a user: its fields by name, whether there are any, and how many sessions. With the keys of mailbox and
-- ring it makes a hash and a list of a parcel, which end when the parcel would have.
local function open(user, mail, ring)
  local list, box, sessions = redis.call('HGETALL', user), {}, 0
  local there = #list > 0
  for i = 1, #list, 2 do
    box[list[i]] = list[i + 1]
    if string.byte(list[i]) == 115 then sessions = sessions + 1 end
  end
  if mail and not there then
    local h, run, records, ids = parcel(mail)
    if h then
      local left = redis.call('PTTL', mail)
      there, box.h, box.x = true, h, '0.' .. run
      redis.call('HSET', user, 'h', h, 'x', box.x)
      redis.call('DEL', mail)
      redis.call('RPUSH', mail, unpack(records))
      if left > 0 then
        redis.call('PEXPIRE', user, left)
        redis.call('PEXPIRE', mail, left)
      end
      redis.call('APPEND', ring, table.concat(ids))
      redis.call('PEXPIRE', ring, 2 * day)
    end
  end
  return box, there, sessions
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
