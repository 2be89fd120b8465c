-- put.lua goes after fact.lua and write.lua, before scripts that put sessions.
-- Sets the session of a user who has the given status, if any. The reaper finds epochs that the lease table lost by their
-- done mark: it must exist.
local function put(session, old, status)
  if not meta[2] then redis.call('HSET', KEYS[2], 'done:' .. ARGV[1], '') end
  redis.call('HSET', KEYS[1], field, session)
  redis.call('HSET', KEYS[3], ARGV[4], '')
  if old and old ~= ARGV[1] then redis.call('HDEL', ARGV[6] .. old, ARGV[4]) end
  if status and string.byte(status) == 105 then redis.call('HSET', hidden, string.sub(ARGV[4], 1, -#ARGV[3] - 2), '') end
end
-- Tells that the session was put.
local function tell(session, addr, status)
  local text = 'S' .. ARGV[4] .. '\0' .. session
  if addr ~= '' or status then text = text .. '\0' .. addr end
  if status then text = text .. '\0' .. status end
  fact(KEYS[2], feed, text)
end
-- Undoes the expiry of a user who had no session, and of the mailbox.
local function keep(there, sessions)
  if there and sessions == 0 then
    redis.call('PERSIST', KEYS[1])
    redis.call('PERSIST', KEYS[4])
  end
end
