-- Notes that the message may be published from now on.
local token = ARGV[1]

if not held_by(token) then
  return 0
end
redis.call('HSET', record, 'a', 1)
return 1
