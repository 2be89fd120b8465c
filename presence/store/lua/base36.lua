-- base36.lua goes before scripts that write numbers in base 36. Digits are made into a string at once: to append each takes 1 µs more.
local function base36(n)
  local digits, i = {}, 12
  repeat
    local d = n % 36
    digits[i] = d < 10 and 48 + d or 87 + d
    n, i = (n - d) / 36, i - 1
  until n == 0
  return string.char(unpack(digits, i + 1, 12))
end
