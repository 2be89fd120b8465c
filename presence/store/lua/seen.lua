-- seen.lua goes before every script that notes when users were last seen.
-- A bucket with more entries than this asks to be split; it stays a listpack up to hash-max-listpack-entries, 512.
local full = 400
-- Notes a time unless a later one is known. Returns whether the bucket is too full.
local function note(bucket, user, at)
  local known = redis.call('HGET', bucket, user)
  if known then
    if tonumber(known) < tonumber(at) then redis.call('HSET', bucket, user, at) end
    return false
  end
  redis.call('HSET', bucket, user, at)
  return redis.call('HLEN', bucket) > full
end
