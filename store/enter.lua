-- Notes in a session's record that it is about to join a room. Safe to repeat.
--   KEYS 1 session, 2 rooms
--   ARGV 1 gen, 2 room, 3 rooms allowed
-- Returns {'ok'} | {'moved'} | {'gone'} | {'too_many_rooms'}
local s = redis.call('HMGET', KEYS[1], 'gen', 'state')
if not s[1] or s[2] == 'ending' then return {'gone'} end
if tonumber(s[1]) > tonumber(ARGV[1]) or s[2] ~= 'live' then return {'moved'} end
if redis.call('SISMEMBER', KEYS[2], ARGV[2]) == 0 then
  if redis.call('SCARD', KEYS[2]) >= tonumber(ARGV[3]) then return {'too_many_rooms'} end
  redis.call('SADD', KEYS[2], ARGV[2])
end
return {'ok'}
