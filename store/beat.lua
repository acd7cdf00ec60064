-- Takes beats of clients in a room's call; without any it looks who is late.
-- Safe to repeat.
--   KEYS as in head.lua
--   ARGV 8 ms from a beat to when its client is late, then for each beat:
--        client, gen, 1 (is in the call) or 0 (has left it), ms since it came
-- Returns {'ok', epoch, seq, in_call, ms until the first is late or, if that is
--          at least half a timeout from now, maybe less (-1: nobody is in),
--          entries appended, then for each beat 'ok' | 'moved' | 'not_member'}
--      or {'wiped'}
-- Most beats change nothing, so what is in room() is made only when it is needed.
local epoch, seq, due, was = position()
if not epoch then return {'wiped'} end
local t, timeout = redis.call('TIME'), tonumber(ARGV[8])
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local told, beats, named, changed = {'ok', epoch, 0, 0, 0, 0}, {}, {}, #ARGV == 8

-- Writes the beats so far of who is in, in one step. Who was in changes nothing.
local function enter()
  if #beats > 0 and redis.call('ZADD', CALL, 'GT', unpack(beats)) > 0 then changed = true end
  beats, named = {}, {}
end

-- Before who is late is taken out: a beat counts from when it came, and it may
-- have waited for a store that was away.
for i = 9, #ARGV, 4 do
  local client = ARGV[i]
  local row, verdict = redis.call('HGET', MEMBERS, client), 'ok'
  if not row then
    verdict = 'not_member'
  elseif tonumber(string.match(row, '^%d+')) > tonumber(ARGV[i + 1]) then
    verdict = 'moved'
  elseif ARGV[i + 2] == '1' then
    if named[client] then enter() end -- not twice in a step: servers differ in what counts
    named[client] = true
    beats[#beats + 1] = now - tonumber(ARGV[i + 3]) + timeout
    beats[#beats + 1] = client
  else
    enter()
    if redis.call('ZREM', CALL, client) == 1 then changed = true end
  end
  told[#told + 1] = verdict
end
enter()
local after = seq
if changed or due and due <= now then
  after, due = room().settle(epoch, seq, now)
elseif due and due < now + timeout / 2 then
  due = room().first_late()
end
local on = (was == '1') ~= (after > seq) -- an entry is a change
told[3], told[4], told[5], told[6] = after, on and '1' or '0', due and due - now or -1, after - seq
return told
