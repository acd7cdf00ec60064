-- Gives a client id back, if it is still this session's. Safe to repeat.
--   KEYS 1 client id
--   ARGV 1 session
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return {'ok'}
