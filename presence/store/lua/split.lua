-- split.lua splits the next bucket of last seen (linear hashing): what belongs to the new bucket moves there. Both are
-- written anew, so that one that had grown into a hash table becomes a listpack again.
-- KEYS: 1 meta  2 bucket to split  3 new bucket
-- ARGV: 1 number of buckets  2 index of the bucket to split  3 modulus
-- Returns the number of buckets, followed by "!" if one of the two is still too full (seen.lua says what that is).
local buckets = redis.call('HGET', KEYS[1], 'b') or '1'
if buckets ~= ARGV[1] then return buckets end
local entries = redis.call('HGETALL', KEYS[2])
local index, modulus = tonumber(ARGV[2]), tonumber(ARGV[3])
redis.call('DEL', KEYS[2], KEYS[3])
for i = 1, #entries, 2 do
  local hash = tonumber(string.sub(redis.sha1hex(entries[i]), 1, 8), 16)
  if hash % modulus == index then
    redis.call('HSET', KEYS[2], entries[i], entries[i + 1])
  else
    redis.call('HSET', KEYS[3], entries[i], entries[i + 1])
  end
end
buckets = string.format('%.0f', tonumber(buckets) + 1)
redis.call('HSET', KEYS[1], 'b', buckets)
if redis.call('HLEN', KEYS[2]) > full or redis.call('HLEN', KEYS[3]) > full then return buckets .. '!' end
return buckets
