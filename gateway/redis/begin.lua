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
-- More than a lease is left when the clock was set back, and the lease is over.
local left = (tonumber(l) or 0) - now
-- The caller's own token: this command was sent twice, and the caller may not wait for itself.
if f and t ~= token and left > 0 and left <= tonumber(lease_ms) then
  return {'in progress', left}
end

redis.call('HSET', record, 'f', fingerprint, 't', token, 'l', now + lease_ms)
redis.call('PEXPIRE', record, keep_ms)
return {'begun', a and 1 or 0}
