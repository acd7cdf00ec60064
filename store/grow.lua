-- Gives a user's value a higher pv, for one who is told of it anew: what it is
-- told must be newer than what it was told before. The pv below the new one is
-- newer, too, for one who is told first that it sees the user no more.
--   KEYS 1 presence
-- Returns {'ok', value, pv}, pv 0 where nothing is known
local p = redis.call('HMGET', KEYS[1], 'value', 'pv', 'said')
if not p[2] then return {'ok', '0', '0'} end
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local pv = string.format('%d', math.max(tonumber(p[2]) + 2, now))
redis.call('HSET', KEYS[1], 'pv', pv)
-- Nobody else has anything to hear of it, unless they have not heard what was before.
if p[3] == p[2] then redis.call('HSET', KEYS[1], 'said', pv) end
return {'ok', p[1] or '0', pv}
