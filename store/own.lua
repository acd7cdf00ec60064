-- Lists a session under its owner. Safe to repeat.
--   KEYS 1 sessions of a node
--   ARGV 1 session
-- Returns {'ok'}
redis.call('SADD', KEYS[1], ARGV[1])
return {'ok'}
