-- What every script about a user's devices begins with.
--   KEYS 1 devices, 2 presence, 3 rooms, 4 watchers, 5 sessions, 6 tombstone of the client
--   ARGV 1 client
-- A device's row is "gen byte at sid", the byte with bit 7 for a timer's.
local DEVICES, PRESENCE, ROOMS, WATCHERS, SESSIONS, TOMB = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local CLIENT = ARGV[1]
-- ms that the value of a user without devices is remembered. Without it pv goes
-- on from the clock.
local REMEMBERED = 86400000

-- Lua numbers are doubles: exact to 2^53, but tostring turns to 1e+15.
local function int(n) return string.format('%.0f', n) end

local function clock()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

-- gen, byte and at of a row.
local function parse(row)
  local gen, byte, at = string.match(row, '^(%d+) (%d+) (%d+) ')
  return tonumber(gen), tonumber(byte), tonumber(at)
end

-- The one value that others see, as rules/presence has it.
local function combine()
  local latest, since, greatest = nil, -1, 0
  for _, row in ipairs(redis.call('HVALS', DEVICES)) do
    local _, byte, at = parse(row)
    if byte >= 128 then
      greatest = math.max(greatest, byte - 128)
    elseif at > since or at == since and byte > latest then
      latest, since = byte, at
    end
  end
  return latest or greatest
end

-- Later than anything that was set, whatever the clock does.
local function after_all(now)
  for _, row in ipairs(redis.call('HVALS', DEVICES)) do
    local _, _, at = parse(row)
    now = math.max(now, at + 1)
  end
  return now
end

-- Notes a changed value under a higher pv, and names who is to be told until
-- somebody says that it was done. {how, value, pv, byte, at, {room entry...}, {watcher...}}
local function settle(how, byte, at)
  local p = redis.call('HMGET', PRESENCE, 'value', 'pv', 'said')
  local pv, value = tonumber(p[2] or '0'), combine()
  if value ~= tonumber(p[1] or '0') then
    pv = math.max(pv + 1, clock())
    redis.call('HSET', PRESENCE, 'value', int(value), 'pv', int(pv))
  end
  if redis.call('HLEN', DEVICES) == 0 then
    redis.call('PEXPIRE', PRESENCE, REMEMBERED)
  else
    redis.call('PERSIST', PRESENCE)
  end
  local rooms, watchers = {}, {}
  if pv > tonumber(p[3] or '0') then
    rooms, watchers = redis.call('SMEMBERS', ROOMS), redis.call('SMEMBERS', WATCHERS)
  end
  return {how, int(value), int(pv), int(byte), int(at), int(tonumber(p[3] or '0')), rooms, watchers}
end
