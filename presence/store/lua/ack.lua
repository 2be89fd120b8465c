-- ack.lua notes up to which message a device has acknowledged, and drops what every known device has: 6 µs. It never goes
-- back, so it may be repeated and come late.
-- KEYS: 1 user  2 mailbox
-- ARGV: 1 device  2 number  3 day  4 share of a message in the bytes of a mailbox
local box = open(KEYS[1])
local h, own, seq = tonumber(box.h), 'd' .. ARGV[1], tonumber(ARGV[2])
if not h or not (box[own] or box['s' .. ARGV[1]]) then return 0 end
-- After a loss of data the mailbox may end before; what comes then has higher numbers.
seq = math.min(seq, h + redis.call('LLEN', KEYS[2]) - 1)
if seq <= cursor(box[own]) then return 0 end
box[own] = int(seq) .. '.' .. ARGV[3]
local least = seq
for field, value in pairs(box) do
  local kind = string.byte(field)
  if kind == 100 then
    least = math.min(least, (cursor(value)))
  elseif kind == 115 and not box['d' .. string.sub(field, 2)] then
    least = 0
  end
end
if least < h then
  redis.call('HSET', KEYS[1], own, box[own])
  return 0
end
local n = least - h + 1
local extra = tonumber(box.b or '0')
if extra > 0 then
  for _, record in ipairs(redis.call('LRANGE', KEYS[2], 0, n - 1)) do
    extra = extra - math.max(0, #record - 20 - tonumber(ARGV[4]))
  end
end
redis.call('LTRIM', KEYS[2], n, -1)
redis.call('HSET', KEYS[1], own, box[own], 'h', int(least + 1))
if box.b then
  if extra > 0 then redis.call('HSET', KEYS[1], 'b', int(extra)) else redis.call('HDEL', KEYS[1], 'b') end
end
if box.o then redis.call('HDEL', KEYS[1], 'o') end
return n
