-- Tells how a room stands. Safe to repeat.
--   KEYS as in head.lua
--   ARGV 8 members told, 9 callers told
-- Returns {'ok', epoch, seq, in_call, count, roster, callers}, the callers as
--         client, row, client, row...; or {'wiped'}
local epoch, seq = head()
if not epoch then return {'wiped'} end
local flat, n = roster(tonumber(ARGV[8]))
local callers = {}
for _, client in ipairs(redis.call('ZRANGE', CALL, 0, tonumber(ARGV[9]) - 1)) do
  local row = redis.call('HGET', MEMBERS, client)
  if row then
    callers[#callers + 1] = client
    callers[#callers + 1] = row
  end
end
return {'ok', epoch, int(seq), in_call(), n, flat, callers}
