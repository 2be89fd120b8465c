-- generation.lua returns the generation of a partition. One that has none is new or lost its data and gets one.
-- KEYS: 1 meta
-- ARGV: 1 generation to give
local g = redis.call('HGET', KEYS[1], 'g')
if not g then
  g = ARGV[1]
  redis.call('HSET', KEYS[1], 'g', g, 'b', '1')
end
return g
