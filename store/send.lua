-- Appends messages, each exactly once for a cseq. Without a cseq do not repeat it.
--   KEYS as in head.lua
--   ARGV from 8 on, for each message: client, gen, cseq (0: none), header, data, and '', or of
--        one that is ephemeral (1, or 0) or for some: 'EPHEMERAL TO_CLIENT #USER USER TO_USER'
--        (0: any client, none: any user)
-- Returns {'sent', epoch, ts, then for each its seq, 0 if ephemeral, or a verdict: 'dup SEQ TS EPOCH'
--      | 'dup' (older than 64) | 'gap EXPECT' | 'moved' | 'not_member EPOCH' | 'no_recipient'},
--      or for all of them {'wiped'}
-- It is the script that runs most by far: what has no part in most messages is in
-- room(), which is made when it is needed, and nothing is called that can be written here.
local epoch, seq, due = position()
if not epoch then return {'wiped'} end
local call, match = redis.call, string.match
local t = call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
if due and now >= due then
  seq = room().settle(epoch, seq, now)
  now = room().clock() -- not before that of an entry just written
end
local first, ts, keep = seq, int(now), ARGV[6]
local answers, n, senders, flows = {'sent', epoch, ts}, 3, {}, {}
local header, lead -- of the message before: mostly the same

for i = 8, #ARGV, 6 do
  local client, named, special = ARGV[i], ARGV[i + 2], ARGV[i + 5]
  local cseq, verdict = tonumber(named), nil
  local s = senders[client]
  if s == nil then
    local row = call('HGET', MEMBERS, client)
    s = false
    if row then
      local gen, last, rest = match(row, '^(%d+) (%d+) (.*)$')
      s = {gen = gen, cseq = tonumber(last), rest = rest}
    end
    senders[client] = s
  end
  local brief, reached = false, true
  if special ~= '' then
    local flag, device, size, at = match(special, '^(%d) (%d+) (%d+) ()')
    local user, to = string.sub(special, at, at + size - 1), string.sub(special, at + size + 1)
    brief, reached = flag == '1', room().reaches(to, device, client, user)
  end
  if not s then
    verdict = 'not_member ' .. epoch
  elseif s.gen ~= ARGV[i + 1] and tonumber(s.gen) > tonumber(ARGV[i + 1]) then
    verdict = 'moved'
  elseif cseq > 0 and cseq <= s.cseq then
    if flows[1] then call('HSET', FLOWS, unpack(flows)) end -- it may be one of these
    flows = {}
    local at, when = match(call('HGET', FLOWS, client .. ':' .. cseq % 64) or '', '^' .. named .. ' (%d+) (%d+)$')
    verdict = at and 'dup ' .. at .. ' ' .. when .. ' ' .. epoch or 'dup'
    call('HSET', META, 'seq', int(seq)) -- a WAIT is for what this connection wrote last, so for this, and all before it
  elseif cseq > s.cseq + 1 then
    verdict = 'gap ' .. int(s.cseq + 1)
  elseif not reached then
    verdict = 'no_recipient'
  else
    if header ~= ARGV[i + 3] then
      header = ARGV[i + 3]
      lead = ts .. ' ' .. #header .. ' ' .. header
    end
    local data = ARGV[i + 4]
    if brief then
      verdict = '0'
      call(PUBLISH, CHANNEL, 'm ' .. lead .. data)
    else
      seq = seq + 1
      verdict = int(seq)
      call('XADD', LOG, 'MAXLEN', '~', keep, verdict .. '-0', 't', ts, 'h', header, 'd', data)
      call(PUBLISH, CHANNEL, 'e ' .. epoch .. ' ' .. verdict .. ' ' .. lead .. data)
      if cseq > 0 then
        s.cseq, s.said = cseq, named
        flows[#flows + 1] = client .. ':' .. int(cseq % 64)
        flows[#flows + 1] = named .. ' ' .. verdict .. ' ' .. ts
      end
    end
  end
  n = n + 1
  answers[n] = verdict
end

if seq > first then
  call('HSET', META, 'seq', int(seq))
  if math.floor(first / 64) ~= math.floor(seq / 64) then room().trim(first, seq, now) end
end
for client, s in pairs(senders) do
  if s and s.said then call('HSET', MEMBERS, client, s.gen .. ' ' .. s.said .. ' ' .. s.rest) end
end
if flows[1] then call('HSET', FLOWS, unpack(flows)) end
return answers
