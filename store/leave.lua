-- Takes a client out of a room and its call, with one entry if it was in. Safe
-- to repeat: the second time there is no row and no entry.
--   KEYS as in head.lua, 7 tombstone
--   ARGV 8 client, 9 gen (0: whatever the row's), 10 user, 11 header
--        12 ms that the tombstone stands (0: none), 13 ms that a room without members lives
-- Returns {'left', epoch, seq of the head} | {'moved'} | {'not_member', epoch} | {'wiped'}
local client, gen = ARGV[8], tonumber(ARGV[9])
if ARGV[12] ~= '0' then redis.call('SET', KEYS[7], '1', 'PX', ARGV[12]) end
local epoch, seq = head()
if not epoch then return {'wiped'} end
local row = redis.call('HGET', MEMBERS, client)
if not row then return {'not_member', epoch} end
local have, cseq = parse(row)
if gen ~= 0 and have > gen then return {'moved'} end
redis.call('HDEL', MEMBERS, client)
if redis.call('HINCRBY', USERS, ARGV[10], -1) <= 0 then redis.call('HDEL', USERS, ARGV[10]) end
if cseq > 0 then
  local slots = {}
  for i = 0, math.min(cseq, 64) - 1 do slots[#slots + 1] = client .. ':' .. int((cseq - i) % 64) end
  redis.call('HDEL', FLOWS, unpack(slots))
end
append(epoch, seq, ARGV[11], '')
seq = seq + 1
if redis.call('ZREM', CALL, client) == 1 then seq = settle(epoch, seq, clock()) end
if redis.call('HLEN', MEMBERS) == 0 then
  for _, k in ipairs({META, LOG, CALL}) do redis.call('PEXPIRE', k, ARGV[13]) end
end
return {'left', epoch, int(seq)}
