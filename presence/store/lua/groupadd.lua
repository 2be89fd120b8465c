-- groupadd.lua adds members.
-- ARGV: 2 most members  then the users
-- Returns the group; "NONE" there is none, "FORBIDDEN", "FULL" nobody was added.
if not created then return {'NONE'} end
if actor ~= '' and actor ~= owner then return {'FORBIDDEN'} end
local missing = {}
each(3, function(first, last)
  local scores = redis.call('ZMSCORE', KEYS[2], unpack(ARGV, first, last))
  for i = first, last do
    if not scores[i - first + 1] then missing[#missing + 1] = ARGV[i] end
  end
end)
if #missing == 0 then return repeated() end
if redis.call('ZCARD', KEYS[2]) + #missing > tonumber(ARGV[2]) then return {'FULL'} end
for i = 1, #missing, 1000 do
  local pairs = {}
  for j = i, math.min(i + 999, #missing) do
    pairs[#pairs + 1] = 0
    pairs[#pairs + 1] = missing[j]
  end
  redis.call('ZADD', KEYS[2], unpack(pairs))
end
change(clock())
return reply()
