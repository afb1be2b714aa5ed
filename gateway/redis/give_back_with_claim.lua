-- Gives back what was taken under the claim, and disarms it. The note of the day is what makes it happen once.
local token = ARGV[1]

if not held_by(token) then
  return 0
end
local day = redis.call('HGET', record, 'd')
if not day then
  return 0
end
redis.call('HDEL', record, 'a', 'd')
uncount(day)
return 1
