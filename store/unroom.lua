-- Forgets the rooms of a client whose session has ended. Safe to repeat.
--   KEYS 1 rooms of the user
--   ARGV 1 client
local head = ARGV[1] .. ' '
for _, entry in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if string.sub(entry, 1, #head) == head then redis.call('SREM', KEYS[1], entry) end
end
return {'ok'}
