-- Keeps the answer and drops the rest but for the fingerprint. With the counters' key, for an answer that refuses, it
-- gives back what is charged, and forgets the claim where too many bytes of the client's refusals are kept already.
local token, answer, keep_ms, bytes, most_bytes = unpack(ARGV)

if not held_by(token) then
  return 0
end
local day = counters and redis.call('HGET', record, 'd')
-- Dropped first: a server out of memory lets a script write on that has begun by freeing.
redis.call('HDEL', record, 't', 'l', 'a', 'd')
if counters and not count_refusal(bytes, most_bytes, keep_ms) then
  redis.call('DEL', record)
else
  redis.call('HSET', record, 'r', answer)
  redis.call('PEXPIRE', record, keep_ms)
end
if day then
  uncount(day)
end
return 1
