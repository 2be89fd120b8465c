-- mailbox.lua goes before every script that touches mailboxes. Of a user's hash it uses: "h" number of the first message in
-- the list; "o" the first that was not dropped unread, where that is not h; "x" "<day>.<run of the server>" of the last
-- tending; "b" bytes of messages above their share; "s<device>" sessions; "d<device>" "<acknowledged>.<day>" of devices,
-- or "d\1<hash>" of one whose name was forgotten.
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
-- Gives a device the cursor that was kept for it by its hash alone.
local function adopt(user, box, device, hash)
  local own, kept = 'd' .. device, 'd\1' .. hash
  if box[kept] and not box[own] then
    redis.call('HSET', user, own, box[kept])
    redis.call('HDEL', user, kept)
    box[own], box[kept] = box[kept], nil
  end
end
-- Notes that a device has no session any more. box is what the user had before. A user with one
-- device that has read everything is forgotten: the entry in last seen tells the device, in 2 bytes instead of 180.
local function depart(user, mail, device, box, now, kept)
  local own, others, sessions = 'd' .. device, {}, 0
  for field in pairs(box) do
    local kind = string.byte(field)
    if kind == 115 and field ~= 's' .. device then
      sessions = sessions + 1
    elseif kind == 100 and field ~= own and not box['s' .. string.sub(field, 2)] then
      others[#others + 1] = field
    end
  end
  local empty = not box.h or redis.call('LLEN', mail) == 0
  if sessions == 0 and #others == 0 and empty then
    redis.call('DEL', user)
    return
  end
  -- 8 devices are waited for, this one included.
  if #others > 7 then
    table.sort(others, function(a, b)
      local seqA, seenA = cursor(box[a])
      local seqB, seenB = cursor(box[b])
      if seenA ~= seenB then return seenA < seenB end
      if seqA ~= seqB then return seqA < seqB end
      return a < b
    end)
    for i = 1, #others - 7 do redis.call('HDEL', user, others[i]) end
  end
  redis.call('HSET', user, own, int((cursor(box[own]))) .. '.' .. int(math.floor(now / day)))
  if sessions == 0 then expire(user, mail, now + kept) end
end
