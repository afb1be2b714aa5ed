-- Keeps the answer and drops the rest but for the fingerprint.
local token, answer, keep_ms = unpack(ARGV)

if not held_by(token) then
  return 0
end
-- Dropped first: a server out of memory lets a script write on that has begun by freeing.
redis.call('HDEL', record, 't', 'l', 'a', 'd')
redis.call('HSET', record, 'r', answer)
redis.call('PEXPIRE', record, keep_ms)
return 1
