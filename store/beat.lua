-- Takes beats of clients in a room's call; without any it only looks who is
-- late. Safe to repeat.
--   KEYS as in room.lua
--   ARGV 8 ms from a beat to when its client is late, then for each beat:
--        client, gen, 1 (is in the call) or 0 (has left it), ms since it came
-- Returns {'ok', epoch, seq, in_call, ms until the first is late (-1: nobody is
--          in), entries appended, then for each beat 'ok' | 'moved' | 'not_member'}
--      or {'wiped'}
local epoch, seq = position()
if not epoch then return {'wiped'} end
local now, timeout = clock(), tonumber(ARGV[8])
local verdicts = {}
-- Before who is late is taken out: a beat counts from when it came, and it may
-- have waited for a store that was away.
for i = 9, #ARGV, 4 do
  local client, row = ARGV[i], redis.call('HGET', MEMBERS, ARGV[i])
  local verdict = 'ok'
  if not row then
    verdict = 'not_member'
  elseif parse(row) > tonumber(ARGV[i + 1]) then
    verdict = 'moved'
  elseif ARGV[i + 2] == '0' then
    redis.call('ZREM', CALL, client)
  else
    local late, was = now - tonumber(ARGV[i + 3]) + timeout, redis.call('ZSCORE', CALL, client)
    if not was or tonumber(was) < late then redis.call('ZADD', CALL, int(late), client) end
  end
  verdicts[#verdicts + 1] = verdict
end
local after = settle(epoch, seq, now)
local due = redis.call('HGET', META, 'call_due')
return {'ok', epoch, int(after), in_call(), due and int(tonumber(due) - now) or '-1', int(after - seq), unpack(verdicts)}
