-- peek.lua tells the newest number of a mailbox, and in pairs of lines the sessions of its user: 3 µs.
-- KEYS: 1 user  2 mailbox
local box, there = open(KEYS[1])
local h, records, _, length = box.h, nil, nil, nil
if there then
  length = h and redis.call('LLEN', KEYS[2])
else
  h, _, records = parcel(KEYS[2])
  length = h and #records
end
local lines = {int(h and tonumber(h) + length - 1 or 0)}
for field, value in pairs(box) do
  if string.byte(field) == 115 then lines[#lines + 1], lines[#lines + 2] = field, value end
end
return table.concat(lines, '\n')
