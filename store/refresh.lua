-- Sets what a refreshed token says. Safe to repeat.
--   KEYS 1 session
--   ARGV 1 gen, then field, value...
-- Returns {'ok'} | {'moved'} | {'gone'}
local s = redis.call('HMGET', KEYS[1], 'gen', 'state')
if not s[1] or s[2] == 'ending' then return {'gone'} end
if tonumber(s[1]) > tonumber(ARGV[1]) then return {'moved'} end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
return {'ok'}
