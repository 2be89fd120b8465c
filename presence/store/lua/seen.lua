-- seen.lua goes before every script that notes or reads when users were last seen.
-- A bucket with more entries than this asks to be split; it stays a listpack up to hash-max-listpack-entries, 512.
local full = 400
-- An entry is 40 bits in 5 bytes: the last 24 of the unix seconds, and 16 of a hash of the device that was connected last. Of the
-- times that it may mean, 194 days apart, it is the last that is not after latest. Entries of version 0.2 are digits.
local window = 16777216
local function unpackSeen(entry, latest)
  if #entry ~= 5 then return tonumber(entry) or 0, nil end
  local a, b, c, high, low = string.byte(entry, 1, 5)
  return latest - (latest - (a * 65536 + b * 256 + c)) % window, high * 256 + low
end
local function packSeen(at, device)
  local s = at % window
  return string.char(math.floor(s / 65536), math.floor(s / 256) % 256, s % 256, math.floor(device / 256), device % 256)
end
-- Notes the last device, and a time unless a later one is known: of an invisible user, by the status, the time of hiding, or
-- nothing at all; if the device is not to be known any more (gone), the one before stays. Returns whether the bucket is too
-- full, and the time.
local function note(bucket, user, at, device, status, gone)
  local ahead = window / 16
  if status and string.byte(status) == 105 then
    local since = string.match(status, '^i%w*%.(%w*)')
    if since == '' then return false, at end
    at, ahead = tonumber(since, 36), window / 2 -- what is known may be much later
  end
  local known = redis.call('HGET', bucket, user)
  local last, before
  if known then
    last, before = unpackSeen(known, at + ahead)
    at = math.max(at, last)
  end
  if gone then
    if before == device then before = nil end
    device = before
  end
  redis.call('HSET', bucket, user, device and packSeen(at, device) or string.format('%.0f', at))
  return not known and redis.call('HLEN', bucket) > full, at
end
