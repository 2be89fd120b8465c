-- revoked.lua goes after write.lua, before scripts that put sessions. It defines revoked, which tells whether a session may
-- not be there: by its user, its device or its token. An entry is "<tokens issued until>.<holds until>", unix ms; a session
-- whose token does not say when it was issued counts as issued before.
local function revoked(key, device, token, issued)
  if ms >= tonumber(meta[4] or '0') then return false end
  local fields = {'u', 'd' .. device}
  if token ~= '' then fields[3] = 't' .. token end
  local entries = redis.call('HMGET', key, unpack(fields))
  for i = 1, #fields do
    local before, holds = string.match(entries[i] or '', '^(%d+)%.(%d+)$')
    if before and tonumber(holds) > ms and (i == 3 or issued == '' or tonumber(issued) <= tonumber(before)) then return true end
  end
  return false
end
