-- Counts one message and notes under its token the day that it was taken from. An empty limit means that there is none.
local reservation = KEYS[1]
local day, limit, keep_seconds, note_ms = unpack(ARGV)

local note = redis.call('GET', reservation)
if note == 'returned' then
  return {'exceeded', used(day)}
end
if note then
  return {'taken', used(note), note}
end
if limit ~= '' and used(day) >= tonumber(limit) then
  return {'exceeded', used(day)}
end
local now_used = count(day, keep_seconds)
redis.call('SET', reservation, day, 'PX', note_ms)
return {'taken', now_used, day}
