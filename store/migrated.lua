-- Notes that a migration is finished. Nothing is lowered: who is late has come
-- to the end of a step behind which others went on. Safe to repeat.
--   KEYS 1 schema
--   ARGV 1 version, 2 what a node must know
for i, name in ipairs({'version', 'needs'}) do
  if tonumber(redis.call('HGET', KEYS[1], name) or -1) < tonumber(ARGV[i]) then
    redis.call('HSET', KEYS[1], name, ARGV[i])
  end
end
if tonumber(redis.call('HGET', KEYS[1], 'step') or 0) <= tonumber(ARGV[1]) then
  redis.call('HDEL', KEYS[1], 'step', 'cursor', 'life')
end
return {'ok'}
