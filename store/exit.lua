-- Takes a room off a session's record, after the session has left it. Whoever
-- holds the session names its gen, and is not heard when another holds it now;
-- gen 0 is for who does not hold it, and is heard when nobody does. Safe to repeat.
--   KEYS 1 session, 2 rooms
--   ARGV 1 gen, 2 room
-- Returns {'ok'} | {'moved'}
local s, gen = redis.call('HMGET', KEYS[1], 'gen', 'state'), tonumber(ARGV[1])
if s[1] and (gen == 0 and s[2] == 'live' or gen > 0 and tonumber(s[1]) > gen) then return {'moved'} end
redis.call('SREM', KEYS[2], ARGV[2])
return {'ok'}
