-- Takes a session over at a node: gen + 1. Repeating it takes it over again,
-- which is harmless to the one who asked.
--   KEYS 1 session, 2 rooms
--   ARGV 1 hash of the secret, 2 node, 3 boot, 4 caps
-- Returns {'ok', previous node, previous boot, previous state, {field, value...}, {room...}}
--      or {'gone'} | {'secret'} | {'expired'}
local s = redis.call('HMGET', KEYS[1], 'secret', 'state', 'exp', 'node', 'boot')
if not s[1] or s[2] == 'ending' then return {'gone'} end
if s[1] ~= ARGV[1] then return {'secret'} end
local t = redis.call('TIME')
if tonumber(s[3]) <= tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000) then return {'expired'} end
redis.call('HINCRBY', KEYS[1], 'gen', 1)
redis.call('HSET', KEYS[1], 'state', 'live', 'node', ARGV[2], 'boot', ARGV[3], 'caps', ARGV[4])
redis.call('HDEL', KEYS[1], 'until', 'retaken')
return {'ok', s[4], s[5], s[2], redis.call('HGETALL', KEYS[1]), redis.call('SMEMBERS', KEYS[2])}
