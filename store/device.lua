-- Makes a device known at its session's gen, with a value or with the one that
-- it has: from here on a lower gen is refused. Safe to repeat.
--   KEYS as in user.lua, 7 contacts
--   ARGV 4 gen, 5 session, 6 byte that it is set to ('': keeps its own), 7 byte that a new one begins with
--        8 when that was set, in ms, where the store has lost it (0: now), 9 1 if the contacts are told
--        then rooms of the session, of which each that is missing is noted
-- Returns {'ok', value, pv, byte, at, pv that was said, {room entry...}, {watcher...}, {contact...}} | {'moved'} | {'gone'}
if redis.call('EXISTS', TOMB) == 1 then return {'gone'} end
local rows = devices()
local row, byte, at = rows[CLIENT], nil, nil
if row then
  local gen
  gen, byte, at = parse(row)
  if gen > tonumber(ARGV[4]) then return {'moved'} end
end
if not row or ARGV[6] ~= '' then
  byte, at = tonumber(ARGV[6] ~= '' and ARGV[6] or ARGV[7]), tonumber(ARGV[8])
  if at == 0 then at = after_all(rows) end
end
rows[CLIENT] = ARGV[4] .. ' ' .. int(byte) .. ' ' .. int(at) .. ' ' .. ARGV[5]
redis.call('HSET', DEVICES, CLIENT, rows[CLIENT])
redis.call('SADD', SESSIONS, ARGV[5])
for i = 10, #ARGV do redis.call('SADD', ROOMS, CLIENT .. ' ' .. ARGV[i]) end
local out = settle('ok', byte, at, rows, not row, not row and ARGV[8] == '0')
if ARGV[9] == '1' then out[9] = redis.call('SMEMBERS', KEYS[7]) end
return out
