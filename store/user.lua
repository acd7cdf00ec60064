-- What every script about a user's devices begins with.
--   KEYS 1 devices, 2 presence, 3 rooms, 4 watchers, 5 sessions, 6 tombstone of the client
--   ARGV 1 client, 2 the user's inbox, 3 user
-- A device's row is "gen byte at sid", the byte with bit 7 for a timer's.
local DEVICES, PRESENCE, ROOMS, WATCHERS, SESSIONS, TOMB = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local CLIENT, INBOX, USER = ARGV[1], ARGV[2], ARGV[3]
local PUBLISH = 'PUBLISH' -- SPUBLISH where the channels are sharded
-- ms that the value of a user without devices is remembered. Without it pv goes
-- on from the clock.
local REMEMBERED = 86400000

-- Lua numbers are doubles: exact to 2^53, but tostring turns to 1e+15.
local function int(n) return string.format('%d', n) end

local now
local function clock()
  if not now then
    local t = redis.call('TIME')
    now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
  end
  return now
end

-- gen, byte and at of a row.
local function parse(row)
  local gen, byte, at = string.match(row, '^(%d+) (%d+) (%d+) ')
  return tonumber(gen), tonumber(byte), tonumber(at)
end

-- The rows of all devices, by client.
local function devices()
  local rows, flat = {}, redis.call('HGETALL', DEVICES)
  for i = 1, #flat, 2 do rows[flat[i]] = flat[i + 1] end
  return rows
end

-- The one value that others see, as rules/presence has it; and how many devices
-- there are.
local function combine(rows)
  local latest, since, greatest, n = nil, -1, 0, 0
  for _, row in pairs(rows) do
    local _, byte, at = parse(row)
    n = n + 1
    if byte >= 128 then
      greatest = math.max(greatest, byte - 128)
    elseif at > since or at == since and byte > latest then
      latest, since = byte, at
    end
  end
  return latest or greatest, n
end

-- Later than anything that was set, whatever the clock does.
local function after_all(rows)
  local later = clock()
  for _, row in pairs(rows) do
    local _, _, at = parse(row)
    later = math.max(later, at + 1)
  end
  return later
end

-- Notes a changed value under a higher pv, and names who is to be told until
-- somebody says that it was done. Where that is nobody but the user itself, it is
-- done here; a device that is new and alone has it from the answer (quiet).
-- rows are the devices as they are now.
-- {how, value, pv, byte, at, pv that was said, {room entry...}, {watcher...}}
local function settle(how, byte, at, rows, new, quiet)
  local p = redis.call('HMGET', PRESENCE, 'value', 'pv', 'said')
  local pv, said = tonumber(p[2] or '0'), tonumber(p[3] or '0')
  local value, n = combine(rows)
  local changed = value ~= tonumber(p[1] or '0')
  if changed then pv = math.max(pv + 1, clock()) end
  local rooms, watchers = {}, {}
  if pv > said then
    rooms, watchers = redis.call('SMEMBERS', ROOMS), redis.call('SMEMBERS', WATCHERS)
    if #rooms == 0 and #watchers == 0 then
      if not (quiet and n == 1) then redis.call(PUBLISH, INBOX, 'p ' .. int(pv) .. ' ' .. int(value) .. ' ' .. USER) end
      changed, said = true, pv
    end
  end
  if changed then redis.call('HSET', PRESENCE, 'value', int(value), 'pv', int(pv), 'said', int(said)) end
  if n == 0 then
    redis.call('PEXPIRE', PRESENCE, REMEMBERED)
  elseif new and n == 1 and p[2] then
    redis.call('PERSIST', PRESENCE)
  end
  return {how, int(value), int(pv), int(byte), int(at), int(said), rooms, watchers}
end
