-- register.lua puts a new session in the place of whatever the device had.
-- ARGV: 7 platform
-- Returns "+<since> <session that was replaced>"; "X" fenced; "L" too late.
local digits = '0123456789abcdefghijklmnopqrstuvwxyz'
local function base36(n)
  local s = ''
  repeat
    local d = n % 36
    s = string.sub(digits, d + 1, d + 1) .. s
    n = (n - d) / 36
  until n == 0
  return s
end
local old = redis.call('HGET', KEYS[1], field)
local epoch, conn, since
if old then
  epoch, conn, since = parse(old)
  if epoch == ARGV[1] and conn == ARGV[2] then
    -- A repetition: the first reply was lost.
    put(old)
    return '+' .. since .. ' '
  end
  ms = math.max(ms, (tonumber(since or '0', 36) or 0) + 1)
end
since = base36(ms)
local session = ARGV[1] .. '.' .. ARGV[2] .. '.' .. since
if ARGV[7] ~= '' then session = session .. '.' .. ARGV[7] end
put(session, epoch)
return '+' .. since .. ' ' .. (old or '')
