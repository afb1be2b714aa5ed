-- Ends the lease; what is armed and charged stays so.
local token = ARGV[1]

if not held_by(token) then
  return 0
end
redis.call('HDEL', record, 'l')
return 1
