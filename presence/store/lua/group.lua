-- group.lua goes before the scripts of a group. A group is a hash: v version, o owner (empty: the application's back end),
-- c when it was created (unix ms), n the call that created or deleted it last. Without c it was deleted; the version stays
-- for a while, so that a group of the same name does not get it again.
-- KEYS: 1 group  2 members  3 ids of messages
-- ARGV: 1 who asks, empty: the application's back end
-- Leaves: actor, owner, created (false: there is no group), nonce, and what is defined here.
local actor = ARGV[1]
local state = redis.call('HMGET', KEYS[1], 'v', 'o', 'c', 'n')
local version, owner, created, nonce = tonumber(state[1] or '0'), state[2] or '', state[3], state[4]
local function int(n) return string.format('%.0f', n) end
local function clock()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end
-- What every change begins with. Versions go forward over a loss of data too, as long as the clock does.
local function change(ms)
  version = math.max(version + 1, ms * 1000)
  redis.call('HSET', KEYS[1], 'v', int(version))
end
-- Calls a command with the arguments from ARGV[first] on, a thousand at a time: Lua's stack holds 8,000.
local function each(first, call)
  for i = first, #ARGV, 1000 do call(i, math.min(i + 999, #ARGV)) end
end
local function isMember(user) return redis.call('ZSCORE', KEYS[2], user) end
local function reply() return {'OK', int(version), owner, created, redis.call('ZCARD', KEYS[2])} end
-- What a change ends with that had nothing to do, since an earlier call perhaps did it: it writes the same again, so that the
-- caller can wait for a replica that has it.
local function repeated()
  redis.call('HSET', KEYS[1], 'v', int(version))
  return reply()
end
