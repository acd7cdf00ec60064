-- Registers a handle for a user, or renews it. Safe to repeat.
--   KEYS 1 handle
--   ARGV 1 user, 2 seconds that it stays the user's without a session
-- Returns {'ok'} | {'owned'}: it is another user's
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return {'owned'} end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return {'ok'}
