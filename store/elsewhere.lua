-- Looks whether a session lives elsewhere than at a node. Changes nothing.
--   KEYS 1 session
--   ARGV 1 node, 2 boot
-- Returns {'ok'} | {'here'}: it is live there
local s = redis.call('HMGET', KEYS[1], 'node', 'boot', 'state')
return {s[1] == ARGV[1] and s[2] == ARGV[2] and s[3] == 'live' and 'here' or 'ok'}
