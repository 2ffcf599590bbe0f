-- How much there is. KEYS: stream, where is put aside. The oldest entry's milliseconds, and what time it is.
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local since = first and tonumber(string.match(first[1], '^%d+')) or now
return { redis.call('XLEN', KEYS[1]), redis.call('XLEN', KEYS[2]), math.max(0, now - since) }
