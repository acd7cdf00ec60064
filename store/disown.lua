-- Takes a session off a node's list, and tells the node. Safe to repeat.
--   KEYS 1 sessions of the node
--   ARGV 1 session, 2 the node's channel, 3 word ('': it is told nothing)
-- Returns {'ok'}
redis.call('SREM', KEYS[1], ARGV[1])
if ARGV[3] ~= '' then redis.call('PUBLISH', ARGV[2], ARGV[3]) end
return {'ok'}
