-- Counts one message, arms the claim and notes the day in it. An empty limit means that there is none.
local token, day, limit, keep_seconds = unpack(ARGV)

if not held_by(token) then
  return {'lost'}
end
local armed, charged = unpack(redis.call('HMGET', record, 'a', 'd'))
if charged then
  redis.call('HSET', record, 'a', 1)
  return {'taken', used(charged), charged}
end
-- Armed and not charged: an earlier request published without the quota, and its message may be on the queue. It can
-- no longer be refused, so it is counted whatever the limit.
if not armed and limit ~= '' and used(day) >= tonumber(limit) then
  return {'exceeded', used(day)}
end
local now_used = count(day, keep_seconds)
redis.call('HSET', record, 'a', 1, 'd', day)
return {'taken', now_used, day}
