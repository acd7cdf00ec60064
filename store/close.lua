-- Puts every member out of a room and its call, with one entry for all. Safe to
-- repeat: in a room without members there is nobody to put out, and no entry.
--   KEYS as in head.lua
--   ARGV 8 header, 9 ms that a room without members lives
-- Returns {'closed', epoch, seq of the head, {client, row, client, row...}} | {'empty', epoch} | {'wiped'}
local epoch, seq = head()
if not epoch then return {'wiped'} end
local rows = redis.call('HGETALL', MEMBERS)
if #rows == 0 then return {'empty', epoch} end
redis.call('DEL', MEMBERS, USERS, FLOWS, CALL)
append(epoch, seq, ARGV[8], '')
seq = settle(epoch, seq + 1, clock())
for _, k in ipairs({META, LOG}) do redis.call('PEXPIRE', k, ARGV[9]) end
return {'closed', epoch, int(seq), rows}
