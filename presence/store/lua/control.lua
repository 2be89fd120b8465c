-- control.lua adds an entry to the control log, which every gateway reads. Entries are numbered without gaps, so that who
-- missed some, because they were trimmed, knows.
-- KEYS: 6 control log
-- ARGV: 6 entry  7 most entries that are kept
local n = redis.call('HINCRBY', KEYS[1], 'ctl', 1)
redis.call('XADD', KEYS[6], 'MAXLEN', ARGV[7], int(n) .. '-0', 'e', ARGV[6])
return reply('OK')
