-- depart.lua goes after mailbox.lua, before scripts that end sessions.
-- Notes that a device has no session any more. box is what the user had before. A user with one
-- device that has read everything is forgotten: the entry in last seen tells the device, in 2 bytes instead of 180; but not if
-- the user has set a status. hidden is the index of invisible users, and entry that of the session in its own.
-- gone: the device is not to be known any more.
local function depart(user, mail, device, box, now, kept, hidden, entry, gone)
  local own, others, sessions = 'd' .. device, {}, 0
  for field in pairs(box) do
    local kind = string.byte(field)
    if kind == 115 and field ~= 's' .. device then
      sessions = sessions + 1
    elseif kind == 100 and field ~= own and not box['s' .. string.sub(field, 2)] then
      others[#others + 1] = field
    end
  end
  if box.t and sessions == 0 and string.byte(box.t) == 105 then
    redis.call('HDEL', hidden, string.sub(entry, 1, -#device - 2))
  end
  local empty = not box.h or redis.call('LLEN', mail) == 0
  -- That there is no status, which may be noted with its time, is forgotten with the last session.
  local plain = sessions == 0 and box.t and string.find(box.t, '^o%w*%.%w*%.$')
  if sessions == 0 and #others == 0 and empty and (plain or not box.t) then
    redis.call('DEL', user)
    return
  end
  if plain then redis.call('HDEL', user, 't') end
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
  if gone then
    redis.call('HDEL', user, own)
  else
    redis.call('HSET', user, own, int((cursor(box[own]))) .. '.' .. int(math.floor(now / day)))
  end
  if sessions == 0 then expire(user, mail, now + kept) end
end
