-- Writes a node's record and lease. Safe to repeat.
--   KEYS 1 record, 2 lease
--   ARGV 1 lease in ms, 2 ms that the record outlives a renewal, then field, value...
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('SET', KEYS[2], '1', 'PX', ARGV[1])
return {'ok'}
