-- Takes a device out for good: its session ends. Its rooms are still told what
-- changes by that; unroom follows. Safe to repeat.
--   KEYS as in user.lua
--   ARGV 4 session, 5 ms that the tombstone stands
-- Returns {'ok', value, pv, 0, 0, pv that was said, {room entry...}, {watcher...}}
redis.call('SET', TOMB, '1', 'PX', ARGV[5])
redis.call('HDEL', DEVICES, CLIENT)
redis.call('SREM', SESSIONS, ARGV[4])
return settle('ok', 0, 0, devices(), false, false)
