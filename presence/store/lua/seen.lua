-- seen.lua goes before every script that notes or reads when users were last seen.
-- A bucket with more entries than this asks to be split; it stays a listpack up to hash-max-listpack-entries, 512.
local full = 400
-- An entry is 48 bits in 6 bytes: 30 of seconds since 2024, and 18 of a hash of the device that was connected last. Entries
-- of version 0.2 are the unix seconds in digits.
local begin = 1704067200
local function unpackSeen(entry)
  if #entry ~= 6 then return tonumber(entry), nil end
  local n = 0
  for i = 1, 6 do n = n * 256 + string.byte(entry, i) end
  return math.floor(n / 262144) + begin, n % 262144
end
local function packSeen(at, device)
  local n, bytes = math.max(0, at - begin) * 262144 + device, {}
  for i = 6, 1, -1 do
    bytes[i] = n % 256
    n = math.floor(n / 256)
  end
  return string.char(unpack(bytes))
end
-- Notes the last device, and a time unless a later one is known: of an invisible user, by the status, the time of hiding, or
-- nothing at all; if the device is not to be known any more (gone), the one before stays. Returns whether the bucket is too
-- full, and the time.
local function note(bucket, user, at, device, status, gone)
  if status and string.byte(status) == 105 then
    local since = string.match(status, '^i%w*%.(%w*)')
    if since == '' then return false, at end
    at = tonumber(since, 36)
  end
  local known = redis.call('HGET', bucket, user)
  local last, before
  if known then
    last, before = unpackSeen(known)
    at = math.max(at, last)
  end
  if gone then
    if before == device then before = nil end
    device = before
  end
  redis.call('HSET', bucket, user, device and packSeen(at, device) or string.format('%.0f', at))
  return not known and redis.call('HLEN', bucket) > full, at
end
