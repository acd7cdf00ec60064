-- Lists a room in the index. Safe to repeat.
--   KEYS 1 a shard of the index
--   ARGV 1 room
-- Returns {'ok'}
redis.call('ZADD', KEYS[1], 0, ARGV[1])
return {'ok'}
