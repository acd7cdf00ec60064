-- Sets when a sweep should look at a session. Safe to repeat.
--   KEYS 1 detached index
--   ARGV 1 session, 2 ms from now
local t = redis.call('TIME')
local at = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000) + tonumber(ARGV[2])
redis.call('ZADD', KEYS[1], string.format('%d', at), ARGV[1])
return {'ok'}
