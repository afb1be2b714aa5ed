-- Forgets the claim, and gives back what was taken under it.
local token = ARGV[1]

if not held_by(token) then
  return 0
end
local day = redis.call('HGET', record, 'd')
-- Deleted first: a server out of memory lets a script write on that has begun by freeing.
redis.call('DEL', record)
if day then
  uncount(day)
end
return 1
