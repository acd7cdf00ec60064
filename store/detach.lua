-- A session's socket is gone: it keeps its rooms until its grace ends. Whoever
-- is no longer the owner changes nothing. Safe to repeat.
--   KEYS 1 session
--   ARGV 1 node, 2 boot, 3 gen (0: any, for the sweep of a dead node), 4 grace in ms
-- Returns {'detached'} | {'ending'} | {'moved'} | {'gone'}
local s = redis.call('HMGET', KEYS[1], 'node', 'boot', 'gen', 'state')
if not s[1] then return {'gone'} end
if s[4] == 'ending' then return {'ending'} end
if s[1] ~= ARGV[1] or s[2] ~= ARGV[2] then return {'moved'} end
if ARGV[3] ~= '0' and tonumber(s[3]) ~= tonumber(ARGV[3]) then return {'moved'} end
if s[4] == 'live' then
  local t = redis.call('TIME')
  local till = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000) + tonumber(ARGV[4])
  redis.call('HSET', KEYS[1], 'state', 'detached', 'until', string.format('%d', till))
end
return {'detached'}
