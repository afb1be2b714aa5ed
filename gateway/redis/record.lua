-- A claim's record: one hash, its fields one letter each because millions of them lie in memory.
--
--   f  fingerprint of the payload, 32 bytes
--   t  token of the holder                                        while pending
--   l  end of the lease in ms since the epoch; absent: no lease   while pending
--   a  "1" when armed                                             while pending
--   d  the day that was charged, YYYY-MM-DD                       while pending
--   r  the packed answer, see packing.py                          when done

local record = KEYS[1]

local function held_by(token)
  return redis.call('HGET', record, 't') == token
end
