-- A client's counters, one for each day. Their keys are built here because only the record knows the day that was
-- charged; KEYS[2] is what they begin with, and its hash tag says in which slot they lie.

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
