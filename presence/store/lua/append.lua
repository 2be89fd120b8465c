-- append.lua stores messages for users of one partition: 8 µs for one message, 3 µs each for 16 of one user.
--
-- No message is stored twice: its id is noted in the ring in the same step that stores it, and whoever repeats a call,
-- because the reply was lost, finds it there. None is lost: it is either noted and stored, or neither; a script is not
-- interrupted, and memory that is full refuses the first write of a call, after which nothing was changed.
-- KEYS: for each user: user, mailbox, ring of ids
-- ARGV: 1 now, unix ms  2 the same in 6 bytes  3 score of the first message in its ring; the others follow
--       4 "<day>.<run of the server>"  5 most bytes of a mailbox  6 share of a message in them  7 retention, ms
--       8 "1": a duplicate writes too, so that WAIT waits for what is there already  9 number of contents
--       then the contents, then for each user its messages, of 19 bytes each: id 16, sender 2, which content 1
-- Returns for each user, divided by \1: "<number of the first stored> <tail> <n new, d duplicate, f full for each>" and in
-- pairs of lines the sessions.
local now, time, score, stamp = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), ARGV[4]
local room, share, kept, replicated = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8] == '1'
-- Bytes by which a record, which has 22 bytes before its content, exceeds its share.
local function above(record) return math.max(0, #record - 22 - share) end

-- Tends a mailbox, with its first message of a day and with the first after the server started or became the primary.
-- Such a server may have lost the newest messages. Their numbers must not be given again: readers would take new messages
-- for those that they have. So all numbers are shifted to above any that was ever given, which are at most 1000 a ms.
local function tend(box, user, mail)
  local h, set = tonumber(box.h), {'x', stamp}
  local run, ours = string.match(box.x or '', '%.(.*)$'), string.match(stamp, '%.(.*)$')
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
    if box.o then
      redis.call('HDEL', user, 'o')
      box.o = nil
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
-- Whether a sender has more than a quarter of the last messages.
local function greedy(ring, sender)
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

local contents = tonumber(ARGV[9])
local function content(n) return ARGV[9 + n] end
local out = {}
for k = 1, #KEYS, 3 do
  local user, mail, ring = KEYS[k], KEYS[k + 1], KEYS[k + 2]
  local plan = ARGV[9 + contents + (k + 2) / 3]
  local n = #plan / 19
  local box, _, sessions = open(user)
  -- What is new. The ring holds 128 ids, what one listpack holds.
  local status, ids, at, records, above_all = {}, {}, {}, {}, 0
  local known, original
  if n > 1 then
    local asked = {}
    for i = 1, n do asked[i] = string.sub(plan, 19 * i - 10, 19 * i - 1) end
    known = redis.call('ZMSCORE', ring, unpack(asked))
    original = {}
    for i = 1, n do
      if original[asked[i]] then known[i] = true else original[asked[i]] = i end
    end
  end
  redis.call('ZREMRANGEBYRANK', ring, 0, n - 129)
  local add = {}
  for i = 1, n do
    local id = string.sub(plan, 19 * i - 10, 19 * i - 1)
    local new
    if known then
      new = not known[i]
      if new then add[#add + 1], add[#add + 2] = score, id end
    else
      new = redis.call('ZADD', ring, 'NX', score, id) == 1
    end
    score = score + 1
    if new then
      local record = string.sub(plan, 19 * i - 18, 19 * i - 3) .. time .. content(string.byte(plan, 19 * i))
      records[#records + 1], ids[#ids + 1], at[#at + 1], status[i] = record, id, i, 'n'
      above_all = above_all + above(record)
    else
      status[i] = 'd'
    end
  end
  if #add > 0 then redis.call('ZADD', ring, unpack(add)) end
  local h, first, len = tonumber(box.h), 0, 0
  if #records > 0 then
    local tended = box.x ~= stamp
    if tended then h = tend(box, user, mail) end
    local before, extra, was = h, tonumber(box.b or '0'), box.o
    if tended then
      local old = redis.call('LINDEX', mail, 0)
      while old and stored(old) < now - kept do
        h, extra = drop(box, mail, h, extra)
        old = redis.call('LINDEX', mail, 0)
      end
    end
    len = redis.call('RPUSH', mail, unpack(records))
    local fit, alone = len * share + extra + above_all <= room, len == #records
    if fit then
      extra = extra + above_all
      first = h + len - #records
    else
      redis.call('LTRIM', mail, 0, -#records - 1)
      h, len, extra = squeeze(box, mail, ring, h, len - #records, extra, records, at, ids, status)
      local count = 0
      for i = 1, n do
        if status[i] == 'n' then count = count + 1 end
        -- The copy of a message that was refused a moment ago is refused as well.
        if original and status[original[string.sub(plan, 19 * i - 10, 19 * i - 1)]] == 'f' then status[i] = 'f' end
      end
      first = h + len - count
    end
    if h ~= before then redis.call('HSET', user, 'h', int(h)) end
    if box.o ~= was then redis.call('HSET', user, 'o', box.o) end
    if extra ~= tonumber(box.b or '0') then redis.call('HSET', user, 'b', int(extra)) end
    if sessions == 0 and (tended or alone) then expire(user, mail, now + kept + 2 * day) end
    if tended then redis.call('PEXPIRE', ring, 2 * day) end
  else
    if replicated then redis.call('PEXPIRE', ring, 2 * day) end
    if h then len = redis.call('LLEN', mail) end
  end
  local lines = {int(first) .. ' ' .. int(h and h + len - 1 or 0) .. ' ' .. table.concat(status)}
  if sessions > 0 then
    for field, value in pairs(box) do
      if string.byte(field) == 115 then lines[#lines + 1], lines[#lines + 2] = field, value end
    end
  end
  out[#out + 1] = table.concat(lines, '\n')
end
return table.concat(out, '\1')
