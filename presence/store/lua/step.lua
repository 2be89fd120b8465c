-- step.lua advances store time and forgets old bans.
-- ARGV: 6 how long a ban lasts, ms
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', int(now - tonumber(ARGV[6])))
return reply('OK')
