-- Asks for the addresses of a file one after the other, and prints what was measured as one line of
-- JSON. Arguments: the file, then any number of headers as name, value.
local paths, headers, at = {}, {}, 0

function init(arguments)
  for line in io.lines(arguments[1]) do paths[#paths + 1] = line end
  for i = 2, #arguments, 2 do headers[arguments[i]] = arguments[i + 1] end
end

function request()
  at = at + 1
  return wrk.format("GET", paths[(at - 1) % #paths + 1], headers)
end

function done(summary, latency)
  local errors = summary.errors
  print(string.format(
    '{"p50": %f, "p95": %f, "requests": %d, "bytes": %d, "failed": %d}',
    latency:percentile(50) / 1000, latency:percentile(95) / 1000, summary.requests, summary.bytes,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
