-- Appends one message of the system's, once for an idempotency key.
--   KEYS as in head.lua, 7 idempotency key
--   ARGV 8 to user ('': any), 9 to client (0: any), 10 header, 11 data
--        12 what is said, hashed, 13 ms that the key is remembered (0: there is none)
-- Returns {'ok', epoch, seq, ts} | {'dup', seq, ts} | {'mismatch'} (the key was of something else)
--      or {'no_recipient'} | {'wiped'}
local epoch, seq = head()
if not epoch then return {'wiped'} end
local once = ARGV[13] ~= '0'
if once then
  local was, s, t = string.match(redis.call('GET', KEYS[7]) or '', '^(%S+) (%d+) (%d+)$')
  if was == ARGV[12] then
    redis.call('HSET', META, 'seq', int(seq)) -- for a WAIT, as in send.lua
    return {'dup', s, t}
  end
  if was then return {'mismatch'} end
end
if not reaches(ARGV[8], ARGV[9]) then return {'no_recipient'} end
local id, ts = append(epoch, seq, ARGV[10], ARGV[11])
if redis.call('HLEN', MEMBERS) == 0 then
  redis.call('PEXPIRE', LOG, redis.call('PTTL', META)) -- nobody is in: the log ends with the room
end
if once then redis.call('SET', KEYS[7], ARGV[12] .. ' ' .. id .. ' ' .. ts, 'PX', ARGV[13]) end
return {'ok', epoch, id, ts}
