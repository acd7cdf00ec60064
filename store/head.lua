-- What every room script begins with.
--   KEYS 1 meta, 2 members, 3 users, 4 log, 5 flows, 6 call
--   ARGV 1 channel
--        2 epoch, 3 seq, 4 ts: the last entry the caller's node knows of (seq 0: none; ts 0: do not compare)
--        5 an epoch to use if a new one begins
--        6 entries the log keeps at least, 7 their greatest age in ms (0: any)
-- A member's row is "gen cseq joined #user #device sid user device", the three
-- numbers first because every send reads them.
local META, MEMBERS, USERS, LOG, FLOWS, CALL = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local CHANNEL = ARGV[1]
local PUBLISH = 'PUBLISH' -- SPUBLISH where the channels are sharded

-- Lua numbers are doubles: exact to 2^53, but tostring turns to 1e+15.
local function int(n) return string.format('%d', n) end

-- The room's epoch and head, when the first in the call is late, and whether one
-- is; nil when there is no such room. A head below what the caller saw, or another
-- entry in its place, is a store that lost its tail: the order that was told is
-- gone, so a new epoch begins here, and where that is is kept.
local function position()
  local m = redis.call('HMGET', META, 'epoch', 'seq', 'call_due', 'in_call')
  if not m[1] then return nil end
  local epoch, seq, known = m[1], tonumber(m[2]), tonumber(ARGV[3])
  if known > 0 and ARGV[2] == epoch then
    local torn = seq < known
    if not torn and ARGV[4] ~= '0' then
      local e = redis.call('XRANGE', LOG, ARGV[3] .. '-0', ARGV[3] .. '-0')
      torn = e[1] ~= nil and e[1][2][2] ~= ARGV[4]
    end
    if torn then
      epoch = ARGV[5]
      redis.call('HSET', META, 'epoch', epoch, 'began', epoch .. ' ' .. int(seq))
      redis.call(PUBLISH, CHANNEL, 'h ' .. epoch .. ' ' .. int(seq))
    end
  end
  return epoch, seq, tonumber(m[3]), m[4] or '0'
end
