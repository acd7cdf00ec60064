-- What makes one script of several: each runs as if it were called by itself,
-- until one refuses. What stands before this page calls them steps.
--   KEYS those of all steps
--   ARGV of each step how many keys it has and how many arguments; then the arguments
-- Returns {what each step that ran has returned...}
local out, k, a = {}, 0, 2 * #steps
for i = 1, #steps do
  local nk, na = ARGV[2 * i - 1] + 0, ARGV[2 * i] + 0
  local answer = steps[i]({unpack(KEYS, k + 1, k + nk)}, {unpack(ARGV, a + 1, a + na)})
  out[i], k, a = answer, k + nk, a + na
  if answer[1] ~= 'ok' then break end
end
return out
