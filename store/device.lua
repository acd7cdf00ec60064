-- Makes a device known at its session's gen, with a value or with the one that
-- it has: from here on a lower gen is refused. Safe to repeat.
--   KEYS as in user.lua
--   ARGV 2 gen, 3 session, 4 byte that it is set to ('': keeps its own), 5 byte that a new one begins with
--        6 when that was set, in ms, where the store has lost it (0: now)
--        then rooms of the session, of which each that is missing is noted
-- Returns {'ok', value, pv, byte, at, pv that was said, {room entry...}, {watcher...}} | {'moved'} | {'gone'}
if redis.call('EXISTS', TOMB) == 1 then return {'gone'} end
local row = redis.call('HGET', DEVICES, CLIENT)
local byte, at
if row then
  local gen
  gen, byte, at = parse(row)
  if gen > tonumber(ARGV[2]) then return {'moved'} end
end
if not row or ARGV[4] ~= '' then
  byte, at = tonumber(ARGV[4] ~= '' and ARGV[4] or ARGV[5]), tonumber(ARGV[6])
  if at == 0 then at = after_all(clock()) end
end
redis.call('HSET', DEVICES, CLIENT, ARGV[2] .. ' ' .. int(byte) .. ' ' .. int(at) .. ' ' .. ARGV[3])
redis.call('SADD', SESSIONS, ARGV[3])
for i = 7, #ARGV do redis.call('SADD', ROOMS, CLIENT .. ' ' .. ARGV[i]) end
return settle('ok', byte, at)
