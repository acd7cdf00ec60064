-- Gives a store that has none its marker, and, empty as it is, this version's
-- layout. Safe to repeat.
--   KEYS 1 marker, 2 schema
--   ARGV 1 the marker, if there is none, 2 version
-- Returns {'ok', marker}.
if redis.call('SET', KEYS[1], ARGV[1], 'NX') then
  redis.call('HSETNX', KEYS[2], 'version', ARGV[2])
end
return {'ok', redis.call('GET', KEYS[1])}
