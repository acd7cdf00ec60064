-- Offers a session another node. Safe to repeat with the same id.
--   KEYS 1 session, 2 redirect
--   ARGV 1 id, 2 token's id, 3 gen, 4 source node, 5 its boot, 6 target node ('*': any but the source), 7 its boot
--        8 ms that the offer holds, 9 ms that the record stands
-- Returns {'ok'} | {'busy'} | {'moved'} | {'gone'}
local s = redis.call('HMGET', KEYS[1], 'node', 'boot', 'gen', 'state')
if not s[1] or s[4] == 'ending' then return {'gone'} end
if s[1] ~= ARGV[4] or s[2] ~= ARGV[5] or tonumber(s[3]) ~= tonumber(ARGV[3]) or s[4] ~= 'live' then return {'moved'} end
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
-- One of an earlier gen nobody can take up any more.
local r = redis.call('HMGET', KEYS[2], 'id', 'state', 'until', 'gen')
if r[2] == 'offered' and r[1] ~= ARGV[1] and tonumber(r[3]) > now and tonumber(r[4]) == tonumber(ARGV[3]) then return {'busy'} end
redis.call('HSET', KEYS[2], 'id', ARGV[1], 'jti', ARGV[2], 'gen', ARGV[3], 'node', ARGV[4], 'boot', ARGV[5],
  'to', ARGV[6], 'toboot', ARGV[7], 'until', string.format('%d', now + tonumber(ARGV[8])), 'state', 'offered')
redis.call('PEXPIRE', KEYS[2], ARGV[9])
return {'ok'}
