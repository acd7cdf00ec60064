-- A node that was cut off looks at a session it holds: still its own, or swept
-- to detached in the meantime and taken back with gen + 1. Safe to repeat: who
-- lost the answer asks with the gen from which it was taken.
--   KEYS 1 session
--   ARGV 1 node, 2 boot, 3 gen
-- Returns {'kept', gen} | {'taken', gen} | {'moved'} | {'gone'}
local s = redis.call('HMGET', KEYS[1], 'node', 'boot', 'gen', 'state')
if not s[1] or s[4] == 'ending' then return {'gone'} end
if s[1] ~= ARGV[1] or s[2] ~= ARGV[2] then return {'moved'} end
if s[4] == 'live' and redis.call('HGET', KEYS[1], 'retaken') == ARGV[3] then return {'taken', s[3]} end
if tonumber(s[3]) ~= tonumber(ARGV[3]) then return {'moved'} end
if s[4] == 'live' then return {'kept', s[3]} end
local gen = redis.call('HINCRBY', KEYS[1], 'gen', 1)
redis.call('HSET', KEYS[1], 'state', 'live', 'retaken', ARGV[3])
redis.call('HDEL', KEYS[1], 'until')
return {'taken', string.format('%d', gen)}
