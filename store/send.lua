-- Appends messages, each exactly once for a cseq. Without a cseq do not repeat it.
--   KEYS as in room.lua
--   ARGV from 8 on, for each message: client, gen, user, cseq (0: none), to user ('': any),
--        to client (0: any), 1 if ephemeral, header, data
-- Returns for each {'ok', epoch, seq, ts} | {'dup', seq, ts, epoch} | {'dup'} (older than 64)
--      | {'gap', expect} | {'moved'} | {'not_member', epoch} | {'no_recipient'},
--      or for all of them {'wiped'}
local epoch, seq = head()
if not epoch then return {'wiped'} end
local now, first = clock(), seq
local ts = int(now)

-- What is read once, and written once at the end.
local senders, flows = {}, {}

local function sender(client)
  local s = senders[client]
  if s == nil then
    local row = redis.call('HGET', MEMBERS, client)
    s = false
    if row then
      s = {}
      s.gen, s.cseq, s.joined, s.rest = parse(row)
    end
    senders[client] = s
  end
  return s
end

local function take(client, gen, user, cseq, to_user, to_client, ephemeral, header, data)
  local s = sender(client)
  if not s then return {'not_member', epoch} end
  if s.gen > tonumber(gen) then return {'moved'} end
  cseq = tonumber(cseq)
  local flow = cseq > 0 and client .. ':' .. int(cseq % 64)
  if cseq > 0 then
    if cseq <= s.cseq then
      local c, at, when = string.match(flows[flow] or redis.call('HGET', FLOWS, flow) or '', '^(%d+) (%d+) (%d+)$')
      if c and tonumber(c) == cseq then return {'dup', at, when, epoch} end
      return {'dup'}
    end
    if cseq > s.cseq + 1 then return {'gap', int(s.cseq + 1)} end
  end
  if not reaches(to_user, to_client, client, user) then return {'no_recipient'} end
  if ephemeral == '1' then
    redis.call(PUBLISH, CHANNEL, 'm ' .. ts .. ' ' .. #header .. ' ' .. header .. data)
    return {'ok', epoch, '0', ts}
  end
  seq = seq + 1
  local id = int(seq)
  write(epoch, id, ts, header, data)
  if cseq > 0 then
    s.cseq, s.said = cseq, true
    flows[flow] = int(cseq) .. ' ' .. id .. ' ' .. ts
  end
  return {'ok', epoch, id, ts}
end

local answers = {}
for i = 8, #ARGV, 9 do answers[#answers + 1] = take(unpack(ARGV, i, i + 8)) end
if seq > first then
  redis.call('HSET', META, 'seq', int(seq))
  trim(first, seq, now)
end
local rows, done = {}, {}
for client, s in pairs(senders) do
  if s and s.said then
    rows[#rows + 1] = client
    rows[#rows + 1] = int(s.gen) .. ' ' .. int(s.cseq) .. ' ' .. s.joined .. ' ' .. s.rest
  end
end
if rows[1] then redis.call('HSET', MEMBERS, unpack(rows)) end
for flow, row in pairs(flows) do
  done[#done + 1] = flow
  done[#done + 1] = row
end
if done[1] then redis.call('HSET', FLOWS, unpack(done)) end
return answers
