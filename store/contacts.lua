-- Replaces a user's contacts. Safe to repeat.
--   KEYS 1 contacts
--   ARGV the users
-- Returns {'ok', {added...}, {removed...}}
local before, now = {}, {}
for _, user in ipairs(redis.call('SMEMBERS', KEYS[1])) do before[user] = true end
local added, removed = {}, {}
for _, user in ipairs(ARGV) do
  now[user] = true
  if not before[user] then
    added[#added + 1] = user
    redis.call('SADD', KEYS[1], user)
  end
end
for user in pairs(before) do
  if not now[user] then
    removed[#removed + 1] = user
    redis.call('SREM', KEYS[1], user)
  end
end
return {'ok', added, removed}
