-- Begins the end of a session. Whoever finds it begun goes on with it: the
-- steps after this one may be done twice. Safe to repeat.
--   KEYS 1 session, 2 rooms
--   ARGV 1 'due' (only if its grace is over) | 'own' (only by its owner) | 'force'
--        2 why its rooms hear of it, 3 node, 4 boot, 5 gen (for 'own')
-- Returns {'ending', {field, value...}, {room...}} | {'live'} | {'early'} | {'moved'} | {'gone'}
local s = redis.call('HMGET', KEYS[1], 'state', 'until', 'node', 'boot', 'gen')
if not s[1] then return {'gone'} end
if s[1] ~= 'ending' then
  if ARGV[1] == 'due' then
    if s[1] == 'live' then return {'live'} end
    local t = redis.call('TIME')
    if tonumber(s[2]) > tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000) then return {'early'} end
  elseif ARGV[1] == 'own' then
    if s[3] ~= ARGV[3] or s[4] ~= ARGV[4] or tonumber(s[5]) ~= tonumber(ARGV[5]) then return {'moved'} end
  end
  redis.call('HSET', KEYS[1], 'state', 'ending', 'reason', ARGV[2])
end
return {'ending', redis.call('HGETALL', KEYS[1]), redis.call('SMEMBERS', KEYS[2])}
