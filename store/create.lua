-- Writes a session's record: a new one, or (after the store lost it) again. A
-- record with a higher gen is left alone. Safe to repeat.
--   KEYS 1 session, 2 rooms
--   ARGV 1 gen, 2 number of rooms, then the rooms, then field, value...
-- Returns {'ok'} | {'moved'}
local have = redis.call('HGET', KEYS[1], 'gen')
if have and tonumber(have) > tonumber(ARGV[1]) then return {'moved'} end
local n = tonumber(ARGV[2])
local fields = {}
for i = 3 + n, #ARGV do fields[#fields + 1] = ARGV[i] end
redis.call('HSET', KEYS[1], 'gen', ARGV[1], unpack(fields))
for i = 3, 2 + n do redis.call('SADD', KEYS[2], ARGV[i]) end
return {'ok'}
