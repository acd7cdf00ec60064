-- Appends one message, exactly once for a cseq. Without a cseq do not repeat it.
--   KEYS as in room.lua
--   ARGV 8 client, 9 gen, 10 user, 11 cseq (0: none), 12 to user ('': any), 13 to client (0: any)
--        14 1 if ephemeral, 15 header, 16 data
-- Returns {'ok', epoch, seq, ts} | {'dup', seq, ts, epoch} | {'dup'} (older than 64) | {'gap', expect}
--      or {'moved'} | {'not_member', epoch} | {'no_recipient'} | {'wiped'}
local client, gen, cseq = ARGV[8], tonumber(ARGV[9]), tonumber(ARGV[11])
local epoch, seq = head()
if not epoch then return {'wiped'} end
local row = redis.call('HGET', MEMBERS, client)
if not row then return {'not_member', epoch} end
local have, last, joined, rest = parse(row)
if have > gen then return {'moved'} end
if cseq > 0 then
  if cseq <= last then
    local flow = redis.call('HGET', FLOWS, client .. ':' .. int(cseq % 64))
    local c, s, t = string.match(flow or '', '^(%d+) (%d+) (%d+)$')
    if c and tonumber(c) == cseq then return {'dup', s, t, epoch} end
    return {'dup'}
  end
  if cseq > last + 1 then return {'gap', int(last + 1)} end
end
if not reaches(ARGV[12], ARGV[13], client, ARGV[10]) then return {'no_recipient'} end
if ARGV[14] == '1' then
  local ts = int(clock())
  redis.call('PUBLISH', CHANNEL, 'm ' .. ts .. ' ' .. #ARGV[15] .. ' ' .. ARGV[15] .. ARGV[16])
  return {'ok', epoch, '0', ts}
end
local id, ts = append(epoch, seq, ARGV[15], ARGV[16])
if cseq > 0 then
  redis.call('HSET', MEMBERS, client, int(have) .. ' ' .. int(cseq) .. ' ' .. joined .. ' ' .. rest)
  redis.call('HSET', FLOWS, client .. ':' .. int(cseq % 64), int(cseq) .. ' ' .. id .. ' ' .. ts)
end
return {'ok', epoch, id, ts}
