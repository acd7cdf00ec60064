-- Makes a session's new gen known to a room: from here on a lower gen is
-- refused. Nothing that others see changes. Safe to repeat.
-- To a client without a row it leaves word for a join that is late on its way.
--   KEYS as in head.lua, 7 the gen of a client that was not in
--   ARGV 8 client, 9 gen, 10 members told (0: none), 11 ms that word is left
--        12 seq up to which the client has everything in the epoch that its node knows ('': nothing)
--        13 1 if it may read what was before its join
-- Returns {'ok', epoch, seq, cseq, joined, in_call, count, roster, calls, from, ts, next, began}
--      from which seq the client may go on ('': none), and when the entry at it, and the next, were
--      appended ('': the log has none); and, beside members, the seq behind which the log has all of the epoch, else the head
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
local from, ts, following = '', '', ''
if ARGV[12] ~= '' and ARGV[2] == epoch and tonumber(ARGV[12]) <= seq then
  local at = tonumber(ARGV[12])
  if ARGV[13] ~= '1' then at = math.max(at, tonumber(joined)) end -- what was before is not its to read
  from = int(at)
  for _, e in ipairs(redis.call('XRANGE', LOG, from .. '-0', int(at + 1) .. '-0', 'COUNT', 2)) do
    if e[1] == from .. '-0' then ts = e[2][2] else following = e[2][2] end
  end
end
-- A node that is older leaves the word of an earlier epoch there.
local began = int(seq)
if ARGV[10] ~= '0' then
  local of, at = string.match(redis.call('HGET', META, 'began') or '', '^(%S+) (%d+)$')
  local after = of == epoch and int(tonumber(at) + 1) .. '-0'
  if after and #redis.call('XRANGE', LOG, after, after) == 1 then began = at end
end
return {'ok', epoch, int(seq), int(cseq), joined, in_call(), n, flat, calls(client), from, ts, following, began}
