-- Asks something of a node that lives. Safe to repeat.
--   KEYS 1 lease, 2 record
--   ARGV 1 id, 2 what, 3 budget in ms
-- Returns {'gone'} when the lease is over, else {'ok'}.
if redis.call('EXISTS', KEYS[1]) == 0 or redis.call('EXISTS', KEYS[2]) == 0 then
  return {'gone'}
end
redis.call('HSET', KEYS[2], 'order', ARGV[1], 'order_what', ARGV[2], 'order_budget', ARGV[3])
return {'ok'}
