-- Notes something of a session with its user, unless the session has ended: the
-- session itself, or that it is about to join a room, so that the room is told
-- of the user from its join on. Safe to repeat.
--   KEYS 1 sessions or rooms of the user, 2 tombstone of the client
--   ARGV 1 session, or client and room
-- Returns {'ok'} | {'gone'}
if redis.call('EXISTS', KEYS[2]) == 1 then return {'gone'} end
redis.call('SADD', KEYS[1], ARGV[1])
return {'ok'}
