-- append.lua stores messages for users of one partition.
--
-- No message is stored twice: its id is noted in the ring in the same step that stores it, and whoever repeats a call,
-- because the reply was lost, finds it there. None is lost: it is either noted and stored, or neither; a script is not
-- interrupted, and memory that is full refuses the first write of a call, after which nothing was changed.
-- KEYS: for each user: user, mailbox, ring of ids
-- ARGV: 1 now, unix ms  2 the same in s, 4 bytes  3 "<day>.<run of the server>"  4 most bytes of a mailbox
--       5 share of a message in them  6 retention, ms  7 "1": a duplicate writes too, so that WAIT waits for what is there
--       already  8 number of contents
--       then the contents, then for each user its messages, of 19 bytes each: id 16, sender 2, which content 1; 128 more
--       if the content is the whole record, with id and time
-- Returns for each user, divided by \1: "<tail> <n new, d duplicate, f full for each>" and in pairs of lines the sessions.
-- What is new is the newest.
local call, sub, byte, find = redis.call, string.sub, string.byte, string.find
local time, stamp, room, share = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local first = 9 + tonumber(ARGV[8]) -- of the messages
local head = 20 -- bytes of a record before its content

-- The id of the i-th message of a plan as the ring has it, with the sender; and its record.
local function ringID(plan, i) return sub(plan, 19 * i - 10, 19 * i - 1) end
local function record(plan, i)
  local content = byte(plan, 19 * i)
  if content > 128 then return ARGV[content - 120] end
  return sub(plan, 19 * i - 18, 19 * i - 3) .. time .. ARGV[8 + content]
end
-- Whether an id is in a ring, which is ids of 10 bytes, the newest last.
local function knows(ring, id)
  local at = find(ring, id, 1, true)
  while at and at % 10 ~= 1 do at = find(ring, id, at + 1, true) end
  return at
end
-- Adds ids to a ring. At least 127 are kept; it is cut to them with every 16th.
local function note(key, ring, ids, tended)
  if #ring + #ids > 1430 then
    call('SET', key, sub(ring .. ids, -1270), 'KEEPTTL')
  elseif ids ~= '' then
    call('APPEND', key, ids)
  end
  if tended or ring == '' then call('PEXPIRE', key, 2 * day) end
end

-- What few appends need, made when the first does: to make these functions takes 2 µs a call.
local slow
local function more()
  local now, kept = tonumber(ARGV[1]), tonumber(ARGV[6])
  local run = string.match(stamp, '%.(.*)$')
  -- Bytes by which a record exceeds its share.
  local function above(message) return math.max(0, #message - head - share) end
  -- A number above any that was ever given, which are at most one a µs.
  local function fresh()
    local clock = call('TIME')
    return tonumber(clock[1]) * 1000000 + tonumber(clock[2])
  end
  -- Whether a record is older than the retention.
  local function old(message)
    local a, b, c, d = byte(message, 17, 20)
    return (((a * 256 + b) * 256 + c) * 256 + d) * 1000 < now - kept
  end

  -- Tends a mailbox, with its first message of a day and with the first after the server started or became the primary.
  -- Such a server may have lost the newest messages. Their numbers must not be given again: readers would take new messages
  -- for those that they have. So all numbers are shifted.
  local function tend(box, user)
    local h, set = tonumber(box.h), {'x', stamp}
    if not h or string.match(box.x or '', '%.(.*)$') ~= run then
      local to = math.max(fresh(), (h or 0) + 1000000)
      for field, value in pairs(box) do
        if h and byte(field) == 100 then
          local seq, seen = cursor(value)
          if seq > 0 then
            box[field] = int(seq + to - h) .. '.' .. int(seen)
            set[#set + 1], set[#set + 2] = field, box[field]
          end
        end
      end
      if h then set[#set + 1], set[#set + 2] = 'm', int(to - h) end
      if h and box.o then
        box.o = int(tonumber(box.o) + to - h)
        set[#set + 1], set[#set + 2] = 'o', box.o
      end
      h, box.h = to, int(to)
      set[#set + 1], set[#set + 2] = 'h', box.h
    end
    call('HSET', user, unpack(set))
    -- Devices that were not seen for long are not waited for.
    local oldest = math.floor((now - kept) / day)
    for field, value in pairs(box) do
      if byte(field) == 100 and not box['s' .. sub(field, 2)] then
        local _, seen = cursor(value)
        if seen < oldest then
          call('HDEL', user, field)
          box[field] = nil
        end
      end
    end
    return h
  end
  -- Drops the oldest message.
  local function drop(box, mail, h, extra)
    local oldest = call('LPOP', mail)
    box.o = box.o or int(h)
    return h + 1, math.max(0, extra - above(oldest))
  end
  -- Whether a sender has more than a quarter of the last messages. Nobody has.
  local function greedy(ids, sender)
    if sender == '\0\0' then return false end
    local count = 0
    for at = 9, #ids, 10 do
      if sub(ids, at, at + 1) == sender then count = count + 1 end
    end
    return count * 40 > #ids
  end
  -- Stores messages one by one in a mailbox without room for all: each takes the place of the oldest, if some device has
  -- acknowledged that one, or if its sender does not fill the mailbox alone. Returns h, the length and the bytes above.
  local function squeeze(box, mail, ring, h, len, extra, new, status)
    local read = 0
    for field, value in pairs(box) do
      if byte(field) == 100 then read = math.max(read, (cursor(value))) end
    end
    for i, message in ipairs(new.records) do
      local refused = false
      while (len + 1) * share + extra + above(message) > room and len > 0 and not refused do
        if h > read and greedy(sub(ring, -1270) .. new.ids[i], sub(new.ids[i], 9, 10)) then
          refused = true
        else
          h, extra = drop(box, mail, h, extra)
          len = len - 1
        end
      end
      if refused then
        status[new.at[i]] = 'f'
      else
        len = call('RPUSH', mail, message)
        extra = extra + above(message)
        ring = ring .. new.ids[i]
      end
    end
    return h, len, extra
  end

  -- Keeps a mailbox as a parcel, if it is one or there is none: as long as it is small, and nothing has to be done about it.
  -- Returns the tail.
  local function pack(mail, h, from, records, packed, new)
    if h and (from ~= run or old(records[1])) then return end
    local size = 0
    for _, list in ipairs({records, new.records}) do
      for _, message in ipairs(list) do size = size + math.max(share, #message - head) end
    end
    if size > room then return end
    h = h or int(fresh())
    local parts = {packed or h .. '.' .. run .. ' '}
    for i, message in ipairs(new.records) do
      parts[#parts + 1] = string.char(math.floor(#message / 256) % 256, #message % 256) .. sub(new.ids[i], 9, 10) .. message
    end
    packed = table.concat(parts)
    -- 2,560 are allocated for it. Beyond, to write it anew for each message costs more than it saves.
    if #packed > 2556 then return end
    call('SET', mail, packed, 'PXAT', int(now + kept + 2 * day))
    return tonumber(h) + #records + #new.records - 1
  end

  -- Stores records that are new, with everything that there is to mind. Returns the tail, and whether the mailbox was tended.
  local function store(box, sessions, user, mail, ring, new, status)
    local h, tended, len = tonumber(box.h), box.x ~= stamp, 0
    if tended then h = tend(box, user) end
    local before, extra, was, size = h, tonumber(box.b or '0'), box.o, 0
    if tended then
      local oldest = call('LINDEX', mail, 0)
      while oldest and old(oldest) do
        h, extra = drop(box, mail, h, extra)
        oldest = call('LINDEX', mail, 0)
      end
    end
    for _, message in ipairs(new.records) do size = size + above(message) end
    len = call('RPUSH', mail, unpack(new.records))
    local alone = len == #new.records
    if len * share + extra + size <= room then
      extra = extra + size
    else
      call('LTRIM', mail, 0, -#new.records - 1)
      h, len, extra = squeeze(box, mail, ring, h, len - #new.records, extra, new, status)
      alone = true -- the list may have been empty in between, and begun again without an end
    end
    if h ~= before then call('HSET', user, 'h', int(h)) end
    if box.o ~= was then call('HSET', user, 'o', box.o) end
    if extra ~= tonumber(box.b or '0') then call('HSET', user, 'b', int(extra)) end
    if sessions == 0 and (tended or alone) then expire(user, mail, now + kept + 2 * day) end
    return h + len - 1, tended
  end

  -- Stores what is new of a plan, in a mailbox of any kind. Returns the tail, nil if nothing is new, and what became of each.
  return function(list, user, mail, key, ring, plan, n)
    local box, sessions, known = {}, 0, ring
    for i = 1, #list, 2 do
      box[list[i]] = list[i + 1]
      if byte(list[i]) == 115 then sessions = sessions + 1 end
    end
    local h, from, records, ids, packed
    if #list == 0 then
      h, from, records, ids, packed = parcel(mail)
      if h then known = ring .. table.concat(ids) end
    end
    local status, original, new = {}, {}, {records = {}, ids = {}, at = {}}
    for i = 1, n do
      local id = ringID(plan, i)
      if original[id] or knows(known, id) then
        status[i] = 'd'
      else
        local k = #new.at + 1
        original[id], status[i] = i, 'n'
        new.records[k], new.ids[k], new.at[k] = record(plan, i), id, i
      end
    end
    local tail = h and tonumber(h) + #records - 1
    if #new.at == 0 then
      if ARGV[7] == '1' and h then call('PEXPIREAT', mail, int(now + kept + 2 * day)) end
      return tail, table.concat(status)
    end
    tail = #list == 0 and h ~= nil and pack(mail, h, from, records or {}, packed, new)
    if tail then return tail, table.concat(status) end
    if h then
      box = open(user, mail, key)
      ring = known
    end
    local tended
    tail, tended = store(box, sessions, user, mail, ring, new, status)
    local noted = {}
    for i = 1, #new.at do
      if status[new.at[i]] == 'n' then noted[#noted + 1] = new.ids[i] end
    end
    note(key, ring, table.concat(noted), tended)
    -- The copy of a message that was refused a moment ago is refused as well.
    for i = 1, n do
      local o = original[ringID(plan, i)]
      if o and status[o] == 'f' then status[i] = 'f' end
    end
    return tail, table.concat(status)
  end
end

-- Stores messages for a session to take at once: as most are, in a mailbox that was tended today, with room for all of them.
-- Returns the tail and what became of each; nothing if there is more to mind.
local function quick(mail, key, ring, plan, n, h)
  local status, ids, records = {}, '', {}
  for i = 1, n do
    local id = ringID(plan, i)
    if knows(ring, id) or knows(ids, id) then return end
    local message = record(plan, i)
    if #message > share + head then return end
    status[i], ids, records[i] = 'n', ids .. id, message
  end
  -- This is the first write, which memory that is full refuses.
  local len = call('RPUSH', mail, unpack(records))
  if len * share > room then
    call('LTRIM', mail, 0, -n - 1)
    return
  end
  note(key, ring, ids)
  return h + len - 1, table.concat(status)
end

local out, user = {}, 0
for k = 1, #KEYS, 3 do
  local mail, key, plan = KEYS[k + 1], KEYS[k + 2], ARGV[first + user]
  user = user + 1
  local n, list = #plan / 19, call('HGETALL', KEYS[k])
  local h, x, b, sessions = nil, nil, nil, ''
  for i = 1, #list, 2 do
    local field = list[i]
    if byte(field) == 115 then
      sessions = sessions .. '\n' .. field .. '\n' .. list[i + 1]
    elseif field == 'h' then
      h = list[i + 1]
    elseif field == 'x' then
      x = list[i + 1]
    elseif field == 'b' then
      b = list[i + 1]
    end
  end
  local ring = call('GET', key) or ''
  local tail, status
  if x == stamp and sessions ~= '' and not b then tail, status = quick(mail, key, ring, plan, n, tonumber(h)) end
  if not tail then
    slow = slow or more()
    tail, status = slow(list, KEYS[k], mail, key, ring, plan, n)
  end
  if not tail then
    tail = h and tonumber(h) + call('LLEN', mail) - 1 or 0
    if ARGV[7] == '1' then call('PEXPIRE', key, 2 * day) end
  end
  out[user] = string.format('%.0f ', tail) .. status .. sessions
end
return table.concat(out, '\1')
