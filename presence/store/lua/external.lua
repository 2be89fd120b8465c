-- external.lua renews the lease of a chat server that is no gateway, or gives it one under a fresh epoch.
-- ARGV: 6 the server, as the pod UID of its record  7 record  8 record of one that keeps its lease alive itself
--       9 fresh epoch  10 epoch that the caller knows, empty: none  11 generation of the table in which it knows it
--       12 lease of a server that does not keep it alive, ms  13 "1": this one does
--       14 "1": the server has just started, and has no users  15 grace, ms  16 epoch that partitions refuse, or empty
--       17 how many servers may have leases
-- Returns after the reply: the epoch, then those that were ended. "FULL": too many servers.
local keeps, mine, ended = ARGV[13] == '1', {}, {}
local records, count, find, uid = redis.call('HGETALL', KEYS[3]), 0, string.find, ' ' .. ARGV[6] .. ' '
for i = 2, #records, 2 do
  local record, flag = records[i], string.byte(records[i])
  local at = find(record, uid, 1, true)
  if at and at < 20 then -- before the JSON
    local epoch = records[i - 1]
    -- Of a lease that has ended, too: a server that comes back is the same server.
    if find(record, '"keep":true', 1, true) then keeps = true end
    if flag == 43 and tonumber(redis.call('ZSCORE', KEYS[2], epoch) or '0') > now then
      if ARGV[14] == '1' or epoch == ARGV[16] then
        cut(epoch, record, tonumber(ARGV[15]))
        ended[#ended + 1] = epoch
      else
        mine[#mine + 1] = epoch
      end
    end
  elseif flag == 43 and string.byte(records[i - 1]) == 126 then
    count = count + 1
  end
end
-- If the table was lost, and the lease with it, the same epoch is entered again: sessions carry it.
if #mine == 0 and ARGV[10] ~= '' and ARGV[10] ~= ARGV[16] and ARGV[14] ~= '1' and gen ~= ARGV[11]
  and not redis.call('ZSCORE', KEYS[2], ARGV[10]) then
  mine[1] = ARGV[10]
end
if #mine == 0 then
  if count >= tonumber(ARGV[17]) then return reply('FULL') end
  mine[1] = ARGV[9]
end
table.sort(mine)
local lasts, record = tonumber(ARGV[12]), ARGV[7]
if keeps then lasts, record = tonumber(ARGV[4]), ARGV[8] end
for _, epoch in ipairs(mine) do
  redis.call('ZADD', KEYS[2], int(now + lasts), epoch)
  redis.call('HSET', KEYS[3], epoch, '+' .. int(now) .. ' ' .. ARGV[6] .. ' ' .. record)
end
local r = reply('OK')
r[#r + 1] = mine[1]
for _, epoch in ipairs(ended) do r[#r + 1] = epoch end
return r
