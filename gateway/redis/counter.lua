-- A client's counters: of messages, one for each day, and of the bytes of refusals that are kept, one for each period
-- of keep_ms. Their keys are built here because only the record knows the day that was charged, and only the server the
-- period; KEYS[2] is what they begin with, and its hash tag says in which slot they lie.

local counters = KEYS[2]

local function used(day)
  return tonumber(redis.call('GET', counters .. day) or 0)
end

local function count(day, keep_seconds)
  local now_used = redis.call('INCR', counters .. day)
  redis.call('EXPIRE', counters .. day, keep_seconds)
  return now_used
end

local function uncount(day)
  -- A counter that was flushed or has expired has nothing to give back.
  if used(day) > 0 then
    redis.call('DECR', counters .. day)
  end
end

local function count_refusal(bytes, most_bytes, keep_ms)
  local period = 'refusals:' .. math.floor(redis.call('TIME')[1] * 1000 / keep_ms)
  if used(period) + bytes > tonumber(most_bytes) then
    return false
  end
  redis.call('INCRBY', counters .. period, bytes)
  redis.call('PEXPIRE', counters .. period, keep_ms)
  return true
end
