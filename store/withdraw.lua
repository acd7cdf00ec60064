-- Takes an offer back, unless it was claimed or withdrawn before. Safe to repeat.
--   KEYS 1 redirect
--   ARGV 1 id, 2 what becomes of it: refused, cancelled or expired
-- Returns {state}: what has become of it; expired when nothing of it is left
local r = redis.call('HMGET', KEYS[1], 'id', 'state')
if r[1] ~= ARGV[1] then return {'expired'} end
if r[2] ~= 'offered' then return {r[2]} end
redis.call('HSET', KEYS[1], 'state', ARGV[2])
return {ARGV[2]}
