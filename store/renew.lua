-- Writes a node's record and lease, and tells the time. Safe to repeat.
--   KEYS 1 record, 2 lease
--   ARGV 1 lease in ms, 2 ms that the record outlives a renewal, 3 ms since the node started, then field, value...
-- Returns {'ok', us by Redis's clock}
redis.call('HSET', KEYS[1], unpack(ARGV, 4))
-- By one clock for all nodes, and once, for it says which revision is older.
local t = redis.call('TIME')
local us = tonumber(t[1]) * 1000000 + tonumber(t[2])
redis.call('HSETNX', KEYS[1], 'started', string.format('%d', math.floor(us / 1000) - tonumber(ARGV[3])))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('SET', KEYS[2], '1', 'PX', ARGV[1])
return {'ok', string.format('%d', us)}
