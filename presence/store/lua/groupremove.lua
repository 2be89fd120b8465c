-- groupremove.lua removes members: any of them for the owner, themselves for the others. The owner cannot leave; if the back
-- end removes the owner, the group is the back end's.
-- ARGV: 2 and on: the users
-- Returns the group; "NONE" there is none, "FORBIDDEN", "OWNER" it would be without its owner.
if not created then return {'NONE'} end
if actor ~= '' and actor ~= owner and (#ARGV ~= 2 or ARGV[2] ~= actor) then return {'FORBIDDEN'} end
local orphaned = false
for i = 2, #ARGV do
  if ARGV[i] == owner then orphaned = true end
end
if orphaned and actor ~= '' then return {'OWNER'} end
local removed = 0
each(2, function(first, last) removed = removed + redis.call('ZREM', KEYS[2], unpack(ARGV, first, last)) end)
if orphaned then
  owner = ''
  redis.call('HSET', KEYS[1], 'o', owner)
end
if removed == 0 and not orphaned then return repeated() end
change(clock())
return reply()
