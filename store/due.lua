-- Hands out sessions that a sweep should look at, and hides them from other
-- sweeps for a while; one that is not settled by then comes up again.
--   KEYS 1 detached index
--   ARGV 1 how many, 2 ms to hide them
-- Returns {the score they were given, session...}
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%d', now), 'LIMIT', '0', ARGV[1])
local again = string.format('%d', now + tonumber(ARGV[2]))
for _, sid in ipairs(due) do redis.call('ZADD', KEYS[1], again, sid) end
return {again, unpack(due)}
