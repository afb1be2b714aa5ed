-- Takes the claim when it is free or its lease is over.
local fingerprint, token, lease_ms, keep_ms = unpack(ARGV)

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local f, t, l, a, r = unpack(redis.call('HMGET', record, 'f', 't', 'l', 'a', 'r'))

if f and f ~= fingerprint then
  return {'other payload', f, r}
end
if r then
  return {'replay', r}
end
-- The caller's own token: this command was sent twice, and the caller may not wait for itself.
if f and t ~= token and l and tonumber(l) > now then
  return {'in progress', tonumber(l) - now}
end

redis.call('HSET', record, 'f', fingerprint, 't', token, 'l', now + lease_ms)
redis.call('PEXPIRE', record, keep_ms)
return {'begun', a and 1 or 0}
