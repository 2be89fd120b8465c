-- status.lua goes after mailbox.lua and write.lua, before scripts that set the status of a user: the field "t", "<o online|
-- a away|b busy|i invisible><set at, ms>.<hidden, s>.<text>", numbers in base 36. An invisible user was last seen at hidden: when
-- the status was set, or earlier, if nobody was there then; empty if never. Absent is online without text.
--
-- Sets the status. entry is what last seen has of the user. box.t is afterwards what the status is. Returns "+" if it was
-- changed, "=" if it was the same, or "W", before anything was written, if all sessions are on dead epochs and must be reaped
-- first, which notes when the user was last seen.
local function setStatus(box, letter, text, entry)
  local old = box.t
  local was, since, said = string.match(old or 'o..', '^(%a)%w*%.(%w*)%.(.*)$')
  if was == letter and said == text then return '=' end
  local alive, dead = false, false
  if (was == 'i') ~= (letter == 'i') then
    for other, session in pairs(box) do
      if string.byte(other) == 115 then
        local mark = redis.call('HGET', KEYS[2], 'x:' .. parse(session))
        if mark and string.byte(mark) == 100 then dead = true else alive = true end
      end
    end
    if dead and not alive then return 'W' end
    since = ''
    if letter == 'i' then
      local seen = 0
      if entry then seen = unpackSeen(entry, math.floor(ms / 1000) + window / 16) end
      if alive then seen = math.max(seen, math.floor(ms / 1000)) end
      if seen > 0 then since = base36(seen) end
    end
  end
  if letter == 'o' and text == '' then
    box.t = nil
    redis.call('HDEL', KEYS[1], 't')
  else
    box.t = letter .. base36(ms) .. '.' .. since .. '.' .. text
    redis.call('HSET', KEYS[1], 't', box.t)
  end
  local name = string.sub(ARGV[4], 1, -#ARGV[3] - 2)
  if letter == 'i' and alive then
    redis.call('HSET', hidden, name, '')
  elseif was == 'i' and letter ~= 'i' then
    redis.call('HDEL', hidden, name)
  end
  return '+'
end
