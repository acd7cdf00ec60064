-- Notes with a user that one of its sessions is about to join a room, so that
-- the room is told of the user from its join on. Safe to repeat.
--   KEYS 1 rooms of the user, 2 tombstone of the client
--   ARGV 1 client and room
-- Returns {'ok'} | {'gone'}
if redis.call('EXISTS', KEYS[2]) == 1 then return {'gone'} end
redis.call('SADD', KEYS[1], ARGV[1])
return {'ok'}
