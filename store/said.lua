-- Tells of a user's value, and notes that everybody was told of it. Safe to repeat.
--   KEYS 1 presence
--   ARGV 1 pv ('': there are others yet to be told), 2 what is told, then the channels
for i = 3, #ARGV do redis.call('PUBLISH', ARGV[i], ARGV[2]) end
if ARGV[1] ~= '' then
  local p = redis.call('HMGET', KEYS[1], 'pv', 'said')
  if p[1] and tonumber(p[2] or '0') < tonumber(ARGV[1]) then redis.call('HSET', KEYS[1], 'said', ARGV[1]) end
end
return {'ok'}
