-- What makes one script of several: each runs as if it were called by itself,
-- until one refuses. What stands before this page calls them steps.
--   KEYS those of all steps
--   ARGV of each step how many keys it has and how many arguments; then the arguments
-- Returns {what each step that ran has returned...}
local out, k, a = {}, 0, 2 * #steps
for i, step in ipairs(steps) do
  local keys, args = {}, {}
  for j = 1, tonumber(ARGV[2 * i - 1]) do keys[j] = KEYS[k + j] end
  for j = 1, tonumber(ARGV[2 * i]) do args[j] = ARGV[a + j] end
  k, a = k + #keys, a + #args
  out[i] = step(keys, args)
  if out[i][1] ~= 'ok' then break end
end
return out
