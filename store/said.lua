-- Notes that everybody was told of a user's value up to a pv. Safe to repeat.
--   KEYS 1 presence
--   ARGV 1 pv
local p = redis.call('HMGET', KEYS[1], 'pv', 'said')
if p[1] and tonumber(p[2] or '0') < tonumber(ARGV[1]) then redis.call('HSET', KEYS[1], 'said', ARGV[1]) end
return {'ok'}
