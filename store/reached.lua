-- Notes how far a migration is, unless it is finished or a later one is under way:
-- who is late says nothing. Safe to repeat.
--   KEYS 1 schema
--   ARGV 1 step, 2 cursor, 3 life of the server that gave it
local at = redis.call('HMGET', KEYS[1], 'version', 'step')
if tonumber(at[1] or 0) < tonumber(ARGV[1]) and tonumber(at[2] or 0) <= tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[1], 'step', ARGV[1], 'cursor', ARGV[2], 'life', ARGV[3])
end
return {'ok'}
