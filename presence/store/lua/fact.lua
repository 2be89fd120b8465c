-- fact.lua goes before every script that changes what is known of users. It adds a fact to the feed of the partition, in the
-- step that makes it true: docs/redis-model.md lists the kinds. It keeps the last 1,500: 15 MB for all partitions.
local function fact(meta, feed, text)
  local r = redis.call('HINCRBY', meta, 'r', 1)
  if r % 64 ~= 0 then
    -- A feed that outlived its meta would refuse the number.
    if r == 1 then redis.call('DEL', feed) end
    redis.call('XADD', feed, r, 'e', text)
  else
    -- Not each time: to look whether there is something to trim takes longer than to add.
    redis.call('XADD', feed, 'MAXLEN', '~', 1500, r, 'e', text)
  end
end
