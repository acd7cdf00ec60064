-- Makes a session's new gen known to a room: from here on a lower gen is
-- refused. Nothing that others see changes. Safe to repeat.
-- To a client without a row it leaves word for a join that is late on its way.
--   KEYS as in room.lua, 7 the gen of a client that was not in
--   ARGV 8 client, 9 gen, 10 members told (0: none), 11 ms that word is left
-- Returns {'ok', epoch, seq, cseq, joined, in_call, count, roster, calls}
--      or {'moved'} | {'not_member', epoch} | {'wiped'}
local client, gen = ARGV[8], tonumber(ARGV[9])
local epoch, seq = head()
if not epoch then return {'wiped'} end
local row = redis.call('HGET', MEMBERS, client)
if not row then
  if tonumber(redis.call('GET', KEYS[7]) or '0') < gen then redis.call('SET', KEYS[7], int(gen), 'PX', ARGV[11]) end
  return {'not_member', epoch}
end
local have, cseq, joined, rest = parse(row)
if have > gen then return {'moved'} end
if have < gen then
  redis.call('HSET', MEMBERS, client, int(gen) .. ' ' .. int(cseq) .. ' ' .. joined .. ' ' .. rest)
end
local flat, n = {}, 0
if ARGV[10] ~= '0' then flat, n = roster(tonumber(ARGV[10])) end
return {'ok', epoch, int(seq), int(cseq), joined, in_call(), n, flat, calls(client)}
