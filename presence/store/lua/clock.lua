-- clock.lua goes before every script of the lease table. It checks the owner and advances store time: by what Redis' clock
-- advanced since the last step, at most ARGV[1]. While nobody can write, no lease ages.
-- KEYS: 1 clock  2 live  3 records  4 bans  5 owner  6 control log
-- ARGV: 1 longest step, ms  2 generation for a new table  3 owner, empty: unchecked  4 lease TTL, ms
--       5 "1": a new table is trusted at once
-- Leaves: now, wall (ms), gen, and reply(status), which tells them.
local function int(n) return string.format('%.0f', n) end
local time = redis.call('TIME')
local wall = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
if ARGV[3] ~= '' then
  local owner = redis.call('GET', KEYS[5])
  if not owner then
    redis.call('SET', KEYS[5], ARGV[3])
  elseif owner ~= ARGV[3] then
    return {'FOREIGN', owner}
  end
end
local clock = redis.call('HMGET', KEYS[1], 'now', 'wall', 'gen', 'schema')
local now, gen = tonumber(clock[1] or nil), clock[3]
if now then
  if clock[4] ~= '1' then return {'SCHEMA', clock[4] or ''} end
  now = now + math.max(0, math.min(wall - tonumber(clock[2]), tonumber(ARGV[1])))
  redis.call('HSET', KEYS[1], 'now', int(now), 'wall', int(wall))
else
  -- Store time begins as wall time, so that it goes forward over a data loss too.
  now, gen = wall, ARGV[2]
  local born = now
  if ARGV[5] == '1' then born = now - tonumber(ARGV[4]) end
  redis.call('HSET', KEYS[1], 'now', int(now), 'wall', int(wall), 'gen', gen, 'born', int(born), 'schema', '1',
    'partitions', '128')
end
local function reply(status) return {status, int(now), int(wall), gen} end
-- A record is "<flag><last renewal, store ms> <pod UID> <json>"; flag + renewable, - ended, = ended and reaped once.
local function cut(epoch, record, grace)
  local flag, renewed, rest = string.match(record, '^([+=-])(%d+) (.*)$')
  if flag ~= '+' then return end
  local deadline = tonumber(redis.call('ZSCORE', KEYS[2], epoch) or '0')
  deadline = math.min(deadline, tonumber(renewed) + grace)
  redis.call('ZADD', KEYS[2], int(deadline), epoch)
  redis.call('HSET', KEYS[3], epoch, '-' .. renewed .. ' ' .. rest)
end
