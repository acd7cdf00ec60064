-- Claims a client id for a session. Safe to repeat.
--   KEYS 1 client id
--   ARGV 1 session, 2 seconds that the claim stands without being renewed
-- Returns {'ok'} | {'owned'}: it is another session's
if redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2], 'NX') then return {'ok'} end
return {redis.call('GET', KEYS[1]) == ARGV[1] and 'ok' or 'owned'}
