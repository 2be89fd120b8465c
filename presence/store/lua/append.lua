-- append.lua stores messages for users of one partition: 10 µs for one message, 6 µs each for 16 of one user or one each for
-- several users.
--
-- No message is stored twice: its id is noted in the ring in the same step that stores it, and whoever repeats a call,
-- because the reply was lost, finds it there. None is lost: it is either noted and stored, or neither; a script is not
-- interrupted, and memory that is full refuses the first write of a call, after which nothing was changed.
-- KEYS: for each user: user, mailbox, ring of ids
-- ARGV: 1 now, unix ms  2 the same in 6 bytes  3 score of the first message in its ring; the others follow
--       4 "<day>.<run of the server>"  5 most bytes of a mailbox  6 share of a message in them  7 retention, ms
--       8 "1": a duplicate writes too, so that WAIT waits for what is there already  9 number of contents
--       then the contents, then for each user its messages, of 19 bytes each: id 16, sender 2, which content 1; 128 more
--       if the content is the whole record, with id and time
-- Returns for each user, divided by \1: "<tail> <n new, d duplicate, f full for each>" and in pairs of lines the sessions.
-- What is new is the newest.
local call, sub, byte = redis.call, string.sub, string.byte
local time, score, room, share = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[5]), tonumber(ARGV[6])
local first = 10 + tonumber(ARGV[9]) -- of the messages

-- What few appends need, made when the first does: to make these functions takes 2 µs a call.
local slow
local function more()
  local now, kept = tonumber(ARGV[1]), tonumber(ARGV[7])
  -- Bytes by which a record, which has 22 bytes before its content, exceeds its share.
  local function above(record) return math.max(0, #record - 22 - share) end

  -- Tends a mailbox, with its first message of a day and with the first after the server started or became the primary.
  -- Such a server may have lost the newest messages. Their numbers must not be given again: readers would take new messages
  -- for those that they have. So all numbers are shifted to above any that was ever given, which are at most 1000 a ms.
  local function tend(box, user, mail)
    local h, set = tonumber(box.h), {'x', ARGV[4]}
    local run, ours = string.match(box.x or '', '%.(.*)$'), string.match(ARGV[4], '%.(.*)$')
    if not h or run ~= ours then
      local clock = redis.call('TIME')
      local ms = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
      local to = math.max(ms * 1000, (h or 0) + 1000000)
      for field, value in pairs(box) do
        if h and string.byte(field) == 100 then
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
    redis.call('HSET', user, unpack(set))
    -- Devices that were not seen for long are not waited for.
    local oldest = math.floor((now - kept) / day)
    for field, value in pairs(box) do
      if string.byte(field) == 100 and not box['s' .. string.sub(field, 2)] then
        local _, seen = cursor(value)
        if seen < oldest then
          redis.call('HDEL', user, field)
          box[field] = nil
        end
      end
    end
    return h
  end
  -- Drops the oldest message.
  local function drop(box, mail, h, extra)
    local old = redis.call('LPOP', mail)
    box.o = box.o or int(h)
    return h + 1, math.max(0, extra - above(old))
  end
  -- The time in a record.
  local function stored(record)
    local n = 0
    for i = 17, 22 do n = n * 256 + string.byte(record, i) end
    return n
  end
  -- Whether a sender has more than a quarter of the last messages. Nobody has.
  local function greedy(ring, sender)
    if sender == '\0\0' then return false end
    local ids, count = redis.call('ZRANGE', ring, 0, -1), 0
    for _, id in ipairs(ids) do
      if string.sub(id, 9, 10) == sender then count = count + 1 end
    end
    return count * 4 > #ids
  end
  -- Stores messages one by one in a mailbox without room for all: each takes the place of the oldest, if some device has
  -- acknowledged that one, or if its sender does not fill the mailbox alone. Returns h, the length and the bytes above.
  local function squeeze(box, mail, ring, h, len, extra, records, at, ids, status)
    local read = 0
    for field, value in pairs(box) do
      if string.byte(field) == 100 then read = math.max(read, (cursor(value))) end
    end
    for i, record in ipairs(records) do
      local refused = false
      while (len + 1) * share + extra + above(record) > room and len > 0 and not refused do
        if h > read and greedy(ring, string.sub(ids[i], 9, 10)) then
          refused = true
        else
          h, extra = drop(box, mail, h, extra)
          len = len - 1
        end
      end
      if refused then
        redis.call('ZREM', ring, ids[i])
        status[at[i]] = 'f'
      else
        len = redis.call('RPUSH', mail, record)
        extra = extra + above(record)
      end
    end
    return h, len, extra
  end

  -- Stores records that are new, with everything that there is to mind. Returns the tail.
  local function store(list, user, mail, ring, records, ids, at, status)
    local box, sessions, h, len = {}, 0, nil, 0
    for i = 1, #list, 2 do
      box[list[i]] = list[i + 1]
      if byte(list[i]) == 115 then sessions = sessions + 1 end
    end
    h = tonumber(box.h)
    local tended = box.x ~= ARGV[4]
    if tended then h = tend(box, user, mail) end
    local before, extra, was, size = h, tonumber(box.b or '0'), box.o, 0
    if tended then
      local old = call('LINDEX', mail, 0)
      while old and stored(old) < now - kept do
        h, extra = drop(box, mail, h, extra)
        old = call('LINDEX', mail, 0)
      end
    end
    for _, record in ipairs(records) do size = size + above(record) end
    len = call('RPUSH', mail, unpack(records))
    local alone = len == #records
    if len * share + extra + size <= room then
      extra = extra + size
    else
      call('LTRIM', mail, 0, -#records - 1)
      h, len, extra = squeeze(box, mail, ring, h, len - #records, extra, records, at, ids, status)
    end
    if h ~= before then call('HSET', user, 'h', int(h)) end
    if box.o ~= was then call('HSET', user, 'o', box.o) end
    if extra ~= tonumber(box.b or '0') then call('HSET', user, 'b', int(extra)) end
    if sessions == 0 and (tended or alone) then expire(user, mail, now + kept + 2 * day) end
    if tended then call('PEXPIRE', ring, 2 * day) end
    return h + len - 1
  end
  return store
end

-- The id of the i-th message of a plan as the ring has it, with the sender; and its record.
local function ringID(plan, i) return sub(plan, 19 * i - 10, 19 * i - 1) end
local function record(plan, i)
  local content = byte(plan, 19 * i)
  if content > 128 then return ARGV[content - 119] end
  return sub(plan, 19 * i - 18, 19 * i - 3) .. time .. ARGV[9 + content]
end
-- Stores several messages of one user. The ring is asked for all of them before it is added to.
local function several(list, user, mail, ring, plan, n)
  local asked, add, original = {}, {}, {}
  local status, ids, at, records = {}, {}, {}, {}
  for i = 1, n do asked[i] = ringID(plan, i) end
  local known = call('ZMSCORE', ring, unpack(asked))
  for i = 1, n do
    local id = asked[i]
    if known[i] or original[id] then
      status[i] = 'd'
    else
      original[id], status[i] = i, 'n'
      add[#add + 1], add[#add + 2] = -score - i, id
      records[#records + 1], ids[#ids + 1], at[#at + 1] = record(plan, i), id, i
    end
  end
  local tail
  if #records > 0 then
    call('ZADD', ring, add[1], add[2])
    call('ZREMRANGEBYRANK', ring, 128 - #records, -1)
    if #records > 1 then call('ZADD', ring, unpack(add, 3)) end
    slow = slow or more()
    tail = slow(list, user, mail, ring, records, ids, at, status)
    -- The copy of a message that was refused a moment ago is refused as well.
    for i = 1, n do
      if original[asked[i]] and status[original[asked[i]]] == 'f' then status[i] = 'f' end
    end
  end
  return tail, table.concat(status)
end

local out, user = {}, 0
for k = 1, #KEYS, 3 do
  local mail, ring, plan = KEYS[k + 1], KEYS[k + 2], ARGV[first + user]
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
  local tail, status
  if n > 1 then
    tail, status = several(list, KEYS[k], mail, ring, plan, n)
  else
    -- The ring holds 127 ids and for a moment one more, what one listpack holds; newest first: to add one at the end takes
    -- 4 µs more. This is the first write, which memory that is full refuses.
    local id = ringID(plan, 1)
    if call('ZADD', ring, 'NX', -score, id) == 0 then
      status = 'd'
    else
      call('ZREMRANGEBYRANK', ring, 127, -1)
      local message = record(plan, 1)
      status = 'n'
      if x == ARGV[4] and sessions ~= '' and not b and #message <= share + 22 then
        local len = call('RPUSH', mail, message)
        tail = tonumber(h) + len - 1
        if len * share > room then
          call('RPOP', mail)
          tail = nil
        end
      end
      if not tail then
        slow = slow or more()
        local became = {'n'}
        tail = slow(list, KEYS[k], mail, ring, {message}, {id}, {1}, became)
        status = became[1]
      end
    end
  end
  score = score + n
  if not tail then
    tail = h and tonumber(h) + call('LLEN', mail) - 1 or 0
    if ARGV[8] == '1' then call('PEXPIRE', ring, 2 * day) end
  end
  out[user] = string.format('%.0f ', tail) .. status .. sessions
end
return table.concat(out, '\1')
