-- Writes how a node's drain goes. Safe to repeat.
--   KEYS 1 drain
--   ARGV 1 ms that it stands, then field, value...
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return {'ok'}
