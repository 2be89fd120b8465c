-- groupmembers.lua reads a page of the members, in the order of their ids' bytes. Members may read it.
-- ARGV: 2 where it begins, as ZRANGEBYLEX has it  3 most members of the page
-- Returns the group and the members; "NONE" there is none, "FORBIDDEN".
if not created then return {'NONE'} end
if actor ~= '' and actor ~= owner and not isMember(actor) then return {'FORBIDDEN'} end
local r = reply()
r[#r + 1] = redis.call('ZRANGE', KEYS[2], ARGV[2], '+', 'BYLEX', 'LIMIT', 0, ARGV[3])
return r
