-- adopt.lua goes after mailbox.lua, before scripts that begin sessions.
-- Gives a device the cursor that was kept for it by its hash alone.
local function adopt(user, box, device, hash)
  local own, kept = 'd' .. device, 'd\1' .. hash
  if box[kept] and not box[own] then
    redis.call('HSET', user, own, box[kept])
    redis.call('HDEL', user, kept)
    box[own], box[kept] = box[kept], nil
  end
end
