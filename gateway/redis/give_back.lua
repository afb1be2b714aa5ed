-- Gives back what was taken under the token, and leaves a note so that it happens once, and so that a take which
-- arrives later takes nothing.
local reservation = KEYS[1]
local note_ms = ARGV[1]

local note = redis.call('GET', reservation)
-- Deleted first: a server out of memory lets a script write on that has begun by freeing.
redis.call('DEL', reservation)
redis.call('SET', reservation, 'returned', 'PX', note_ms)
if note and note ~= 'returned' then
  uncount(note)
  return 1
end
return 0
