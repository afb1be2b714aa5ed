-- What wrk runs: sends one request over and over, and counts the answers by status.
-- Arguments: "fresh" for an Idempotency-Key of each request's own, or "same"; the run's name; the method; the body,
-- which may be empty; the headers.

local threads = {}

function setup(thread)
  thread:set("number", #threads)
  table.insert(threads, thread)
end

function init(arguments)
  statuses = {}
  sent = 0
  local headers = {}
  for position = 5, #arguments do
    local name, value = arguments[position]:match("^(.-): (.*)$")
    headers[name] = value
  end
  local method, body = arguments[3], arguments[4]
  if body == "" then
    body = nil
  end
  if arguments[1] == "fresh" then
    -- The request is put together once, around a mark in the key's place.
    headers["Idempotency-Key"] = "<key>"
    local whole = wrk.format(method, nil, headers, body)
    local first, last = whole:find("<key>", 1, true)
    before, after = whole:sub(1, first - 1) .. arguments[2] .. "-" .. number .. "-", whole:sub(last + 1)
  else
    before = nil
    whole_request = wrk.format(method, nil, headers, body)
  end
end

function request()
  if before == nil then
    return whole_request
  end
  sent = sent + 1
  return before .. sent .. after
end

function response(status)
  statuses[status] = (statuses[status] or 0) + 1
end

function done(summary, latency)
  local sums, parts = {}, {}
  for _, thread in ipairs(threads) do
    for status, count in pairs(thread:get("statuses")) do
      sums[status] = (sums[status] or 0) + count
    end
  end
  for status, count in pairs(sums) do
    table.insert(parts, string.format('"%d": %d', status, count))
  end
  local failed = summary.errors
  io.write(string.format(
    '{"requests": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, "socket_errors": %d, "statuses": {%s}}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    failed.connect + failed.read + failed.write + failed.timeout, table.concat(parts, ", ")
  ))
end
