-- Makes a client a member. Safe to repeat: a member that joins again gets no entry.
--   KEYS as in head.lua, 7 tombstone, 8 the gen at which attach did not find the client
--   ARGV 8 client, 9 gen, 10 rest of the row (#user #device sid user device), 11 user, 12 header
--        13 members allowed, 14 members told
-- Returns {'joined'|'again', epoch, seq, cseq, joined, in_call, count, roster, calls}
--      or {'moved'} | {'gone'} | {'room_full'}
local client, gen = ARGV[8], tonumber(ARGV[9])
if redis.call('EXISTS', KEYS[7]) == 1 then return {'gone'} end
if tonumber(redis.call('GET', KEYS[8]) or '0') > gen then return {'moved'} end
local epoch, seq = head()
if not epoch then
  redis.call('DEL', MEMBERS, USERS, LOG, FLOWS, CALL)
  epoch, seq = ARGV[5], 0
  redis.call('HSET', META, 'epoch', epoch, 'seq', '0')
end
local row = redis.call('HGET', MEMBERS, client)
local how, cseq, joined = 'again', 0, nil
if row then
  local have, c, j, rest = parse(row)
  if have > gen then return {'moved'} end
  cseq, joined = c, j
  if have < gen then
    redis.call('HSET', MEMBERS, client, int(gen) .. ' ' .. int(c) .. ' ' .. j .. ' ' .. rest)
  end
else
  local n = redis.call('HLEN', MEMBERS)
  if n >= tonumber(ARGV[13]) then return {'room_full'} end
  if n == 0 then
    redis.call('PERSIST', META)
    redis.call('PERSIST', LOG)
  end
  -- A node that does not know of calls may have let go of its row alone.
  if redis.call('ZREM', CALL, client) == 1 or n == 0 then seq = settle(epoch, seq, clock()) end
  how, joined = 'joined', int(seq + 1)
  redis.call('HSET', MEMBERS, client, int(gen) .. ' 0 ' .. joined .. ' ' .. ARGV[10])
  redis.call('HINCRBY', USERS, ARGV[11], 1)
  append(epoch, seq, ARGV[12], '')
  seq = seq + 1
end
local flat, n = roster(tonumber(ARGV[14]))
return {how, epoch, int(seq), int(cseq), joined, in_call(), n, flat, calls(client)}
