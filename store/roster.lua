-- Reads which users are in a room, and up to which entry of its log that holds.
--   KEYS 1 meta, 2 users
-- Returns {'ok', epoch, seq, {user, devices...}} | {'wiped'}
local m = redis.call('HMGET', KEYS[1], 'epoch', 'seq')
if not m[1] then return {'wiped'} end
return {'ok', m[1], m[2], redis.call('HGETALL', KEYS[2])}
