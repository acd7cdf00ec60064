-- Takes a session out of the index, unless it was detached anew meanwhile.
--   KEYS 1 detached index
--   ARGV 1 session, 2 the score that due gave it
if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or '-1') == tonumber(ARGV[2]) then
  redis.call('ZREM', KEYS[1], ARGV[1])
end
return {'ok'}
