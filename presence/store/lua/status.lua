-- status.lua goes after mailbox.lua and write.lua, before scripts that set the status of a user: the field "t", "<o online|
-- a away|b busy|i invisible><set at, ms>.<hidden, s>.<text>", numbers in base 36. An invisible user was last seen at hidden: when
-- the status was set, or earlier, if nobody was there then; empty if never. Absent is online without text. That is kept too, if
-- it was set, while the user has sessions: only by its time is it known to be newer than what a gateway puts back after a loss.
--
-- Sets the status, and the time, if it was the same, too. entry is what last seen has of the user. box.t is afterwards what the
-- status is. Returns "+" if it was changed, "=" if it was the same, or "W", before anything was written, if all sessions are on dead epochs and must be reaped
-- first, which notes when the user was last seen.
local function setStatus(box, letter, text, entry)
  local old = box.t
  local was, set, since, said = string.match(old or 'o0..', '^(%a)(%w*)%.(%w*)%.(.*)$')
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
  box.t = letter .. base36(math.max(ms, tonumber(set, 36) + 1)) .. '.' .. since .. '.' .. text
  redis.call('HSET', KEYS[1], 't', box.t)
  local name = string.sub(ARGV[4], 1, -#ARGV[3] - 2)
  if letter == 'i' and alive then
    redis.call('HSET', hidden, name, '')
  elseif was == 'i' and letter ~= 'i' then
    redis.call('HDEL', hidden, name)
  end
  return was == letter and said == text and '=' or '+'
end
-- Returns the epochs, each after a space, that have other sessions of the user than the caller. They know an older status.
local function elsewhere(box)
  local list, told = '', { [ARGV[1]] = true }
  for other, session in pairs(box) do
    if string.byte(other) == 115 and other ~= field then
      local epoch = parse(session)
      if not told[epoch] then
        told[epoch] = true
        list = list .. ' ' .. epoch
      end
    end
  end
  return list
end
