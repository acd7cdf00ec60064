-- The one commit of a redirect: an offer that holds moves the session, gen + 1.
-- Whoever comes second finds it committed, withdrawn or over.
--   KEYS 1 session, 2 rooms, 3 redirect
--   ARGV 1 id, 2 token's id, 3 gen, 4 node, 5 boot (who claims), 6 caps, 7 moves remembered
-- Returns {'ok', previous node, previous boot, previous state, {field, value...}, {room...}}
--      or {'gone'} | {'used'} | {'cancelled'} | {'expired'} | {'wrong_audience'} | {'same_node'} | {'gen_mismatch'}
local s = redis.call('HMGET', KEYS[1], 'gen', 'state', 'node', 'boot', 'moves')
if not s[1] or s[2] == 'ending' then return {'gone'} end
local r = redis.call('HMGET', KEYS[3], 'id', 'jti', 'state', 'until', 'to', 'toboot', 'gen', 'node', 'boot')
if r[1] ~= ARGV[1] or r[2] ~= ARGV[2] then return {'cancelled'} end -- a later offer stands in its place
if r[3] == 'committed' then return {'used'} end
if r[3] ~= 'offered' then return {r[3] == 'expired' and 'expired' or 'cancelled'} end
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
if tonumber(r[4]) <= now then return {'expired'} end
if r[8] == ARGV[4] and r[9] == ARGV[5] then return {'same_node'} end
if r[5] ~= '*' and (r[5] ~= ARGV[4] or r[6] ~= ARGV[5]) then return {'wrong_audience'} end
if tonumber(s[1]) ~= tonumber(ARGV[3]) or r[7] ~= ARGV[3] then return {'gen_mismatch'} end
redis.call('HSET', KEYS[3], 'state', 'committed')
-- When and from where it moved, newest first.
local moves, n = string.format('%d', now) .. ' ' .. s[4] .. ' ' .. s[3], 1
for move in string.gmatch(s[5] or '', '[^\n]+') do
  if n >= tonumber(ARGV[7]) then break end
  moves, n = moves .. '\n' .. move, n + 1
end
redis.call('HINCRBY', KEYS[1], 'gen', 1)
redis.call('HSET', KEYS[1], 'state', 'live', 'node', ARGV[4], 'boot', ARGV[5], 'caps', ARGV[6], 'moves', moves)
redis.call('HDEL', KEYS[1], 'until', 'retaken')
return {'ok', s[3], s[4], s[2], redis.call('HGETALL', KEYS[1]), redis.call('SMEMBERS', KEYS[2])}
