-- What scripts of a room share, after head.lua. In the scripts that run most it is a
-- function, room(), which is called where something of it is needed: to make these
-- functions costs more than what is done in most runs.

local function clock()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

-- Every 64th entry takes the entries before the cutoff with it, some 1000 at
-- most. It looks at the oldest, and at more only while those are to go.
local function trim(before, seq, now)
  local age = tonumber(ARGV[7])
  if age == 0 or math.floor(before / 64) == math.floor(seq / 64) then return end
  local last, taken, count = nil, 0, 1
  while taken < 1000 do
    local page = redis.call('XRANGE', LOG, last and '(' .. last or '-', '+', 'COUNT', count)
    local known = taken
    for _, e in ipairs(page) do
      if tonumber(e[2][2]) >= now - age then break end
      last, taken = e[1], taken + 1
    end
    if taken < known + count then break end
    count = 64
  end
  if last then
    redis.call('XTRIM', LOG, 'MINID', int(tonumber(string.match(last, '^%d+')) + 1))
  end
end

-- Appends one entry after seq and tells the nodes, as send.lua does. Returns its
-- seq and ts.
local function append(epoch, seq, header, data)
  local now = clock()
  local id, ts = int(seq + 1), int(now)
  redis.call('HSET', META, 'seq', id)
  redis.call('XADD', LOG, 'MAXLEN', '~', ARGV[6], id .. '-0', 't', ts, 'h', header, 'd', data)
  redis.call(PUBLISH, CHANNEL, 'e ' .. epoch .. ' ' .. id .. ' ' .. ts .. ' ' .. #header .. ' ' .. header .. data)
  trim(seq, seq + 1, now)
  return id, ts
end

-- gen, cseq, joined and the rest of a row.
local function parse(row)
  local gen, cseq, joined, rest = string.match(row, '^(%d+) (%d+) (%d+) (.*)$')
  return tonumber(gen), tonumber(cseq), joined, rest
end

-- The user of a row.
local function user_of(row)
  local n, at = string.match(row, '^%d+ %d+ %d+ (%d+) %d+ %S+ ()')
  return string.sub(row, at, at + tonumber(n) - 1)
end

-- Whether somebody is there whom a user ('': any) and a device ('0': any) mean,
-- but for the client that sends, and its own device among the sender's.
local function reaches(user, device, client, sender)
  if device ~= '0' then
    local row = device ~= client and redis.call('HGET', MEMBERS, device)
    return row and (user == '' or user_of(row) == user)
  end
  if user == '' then return true end
  local n = tonumber(redis.call('HGET', USERS, user) or '0')
  if user == sender then n = n - 1 end
  return n > 0
end

local function in_call() return redis.call('HGET', META, 'in_call') or '0' end

-- '1' if a client is in the call.
local function calls(client) return redis.call('ZSCORE', CALL, client) and '1' or '0' end

-- Whether clients of two users are in the call. Who is no member any more is
-- taken out: a node that does not know of calls lets go of the row alone.
local function two_users()
  local first, from = nil, 0
  while true do
    local page = redis.call('ZRANGE', CALL, from, from + 15)
    if #page == 0 then return false end
    for _, client in ipairs(page) do
      local row = redis.call('HGET', MEMBERS, client)
      if row then
        local user = user_of(row)
        if first and user ~= first then return true end
        first, from = user, from + 1
      else
        redis.call('ZREM', CALL, client)
      end
    end
  end
end

-- Notes when the first in the call is late, and returns it; nil: nobody is in.
local function first_late()
  local due = tonumber(redis.call('ZRANGE', CALL, 0, 0, 'WITHSCORES')[2])
  if due then
    redis.call('HSET', META, 'call_due', int(due))
  else
    redis.call('HDEL', META, 'call_due', 'call_life')
  end
  return due
end

-- After a start of the store, with its data, nobody is late before it has been up
-- for that long, in ms: by then it has read the data, if that is not much, each node
-- has found it, and has written the beats that it kept meanwhile.
local YOUNG = 10000

-- Which life of the store this is, and for how many ms it has run; nil where it
-- does not say.
local function life()
  local info = redis.pcall('INFO', 'server')
  if type(info) ~= 'string' then return nil end
  local id, up = string.match(info, 'run_id:(%x+)'), string.match(info, 'uptime_in_seconds:(%d+)')
  if id and up then return id, 1000 * tonumber(up) end
end

-- Takes who is late out of the call, or puts them off, where the call is from an
-- earlier life of the store and this one is young.
local function evict(now)
  if redis.call('EXISTS', CALL) == 0 then return end
  local late = redis.call('ZRANGEBYSCORE', CALL, '-inf', int(now))
  local known = redis.call('HGET', META, 'call_life')
  if not late[1] and known then return end
  local id, up = life()
  if id and id ~= known then redis.call('HSET', META, 'call_life', id) end
  if id and known and id ~= known and up < YOUNG then
    for _, client in ipairs(late) do redis.call('ZADD', CALL, int(now + YOUNG - up), client) end
  elseif late[1] then
    redis.call('ZREMRANGEBYSCORE', CALL, '-inf', int(now))
  end
end

-- Takes out of the call who is late by now, and has the flag follow, with one
-- entry if it changes. Returns the head, and when the first is late. rules/call
-- says the same in Go.
--   CALL is client -> ms of the store's clock from when on it is late
--   META has in_call, the flag, and call_due: nobody is late before that. It may
--   be earlier than the first is late, for beats that only keep who is in leave it
--   behind; whoever finds it over settles, and it is right again. And call_life: the
--   life of the store in which somebody was late last, or the call began
local function settle(epoch, seq, now)
  evict(now)
  local is, due = two_users() and '1' or '0', first_late()
  if is ~= in_call() then
    redis.call('HSET', META, 'in_call', is)
    append(epoch, seq, '{"k":"call","i":' .. (is == '1' and 'true' or 'false') .. '}', '')
    seq = seq + 1
  end
  return seq, due
end

-- The room's epoch and head, once who is late is out of its call.
local function head()
  local epoch, seq, due = position()
  if epoch and due then
    local now = clock()
    if now >= due then seq = settle(epoch, seq, now) end
  end
  return epoch, seq
end

-- Up to `most` members as client, row, client, row...; and how many there are.
local function roster(most)
  local n = redis.call('HLEN', MEMBERS)
  if n <= most then return redis.call('HGETALL', MEMBERS), n end
  local flat, cursor = {}, '0'
  repeat
    local page = redis.call('HSCAN', MEMBERS, cursor, 'COUNT', most)
    cursor = page[1]
    for _, v in ipairs(page[2]) do
      if #flat < 2 * most then flat[#flat + 1] = v end
    end
  until cursor == '0' or #flat >= 2 * most
  return flat, n
end
