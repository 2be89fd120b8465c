-- revoke.lua refuses sessions of a user from now on. Of two revocations of the same, the longer and the later ones hold.
-- KEYS: 1 revocations of the user  2 meta, whose field v tells until when any of the partition hold: logins look no further
-- ARGV: 1 entry: "u", "d" and a device, "t" and a token id  2 tokens issued until, unix ms; empty: now
--       3 how long it holds, ms; 0: it is not kept  4 most entries
-- Returns now, unix ms; "FULL" if the user has too many entries.
local time = redis.call('TIME')
local ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local function int(n) return string.format('%.0f', n) end
local ttl = tonumber(ARGV[3])
if ttl <= 0 then return int(ms) end
local before, holds, last, count = tonumber(ARGV[2]) or ms, ms + ttl, ms + ttl, 0
local entries = redis.call('HGETALL', KEYS[1])
for i = 1, #entries, 2 do
  local b, h = string.match(entries[i + 1], '^(%d+)%.(%d+)$')
  if tonumber(h) <= ms then
    redis.call('HDEL', KEYS[1], entries[i])
  else
    last = math.max(last, tonumber(h))
    if entries[i] == ARGV[1] then
      before, holds = math.max(before, tonumber(b)), math.max(holds, tonumber(h))
    else
      count = count + 1
    end
  end
end
if count >= tonumber(ARGV[4]) then return 'FULL' end
redis.call('HSET', KEYS[1], ARGV[1], int(before) .. '.' .. int(holds))
redis.call('PEXPIREAT', KEYS[1], int(last))
if last > (tonumber(redis.call('HGET', KEYS[2], 'v') or '0')) then redis.call('HSET', KEYS[2], 'v', int(last)) end
return int(ms)
