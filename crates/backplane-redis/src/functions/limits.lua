-- Exact sliding windows: a list of "time-stamp", oldest first, at most the limit long.
-- Arguments: time, limit, window. Returns allowed, remaining, reset, stamp.
redis.register_function('gw1_take', function(keys, args)
  local now, limit, window = clock(args[1]), tonumber(args[2]), tonumber(args[3])
  local oldest = redis.call('LINDEX', keys[1], 0)
  while oldest and string.match(oldest, '^%d+') + window <= now do
    redis.call('LPOP', keys[1])
    oldest = redis.call('LINDEX', keys[1], 0)
  end
  local taken = redis.call('LLEN', keys[1])
  if taken >= limit then
    -- A limit that was lowered needs more than one entry to leave.
    local blocking = redis.call('LINDEX', keys[1], taken - limit)
    local since = blocking and string.match(blocking, '^%d+') or now
    return { 0, 0, int(since + window), '0' }
  end
  local last = redis.call('LINDEX', keys[1], -1)
  local unique = stamp()
  if last then unique = math.max(unique, string.match(last, '%d+$') + 1) end
  redis.call('RPUSH', keys[1], int(now) .. '-' .. int(unique))
  redis.call('PEXPIRE', keys[1], window)
  return { 1, limit - taken - 1, int(now + window), int(unique) }
end)

-- Arguments: stamp.
redis.register_function('gw1_give_back', function(keys, args)
  for _, entry in ipairs(redis.call('LRANGE', keys[1], 0, -1)) do
    if string.match(entry, '%d+$') == args[1] then return redis.call('LREM', keys[1], 1, entry) end
  end
  return 0
end)

-- What was counted happened later than that: it moves on to its place. Arguments: time, window, stamp, when.
redis.register_function('gw1_happened', function(keys, args)
  local now, window, at = clock(args[1]), tonumber(args[2]), tonumber(args[4])
  local behind
  for _, entry in ipairs(redis.call('LRANGE', keys[1], 0, -1)) do
    if string.match(entry, '%d+$') == args[3] then
      redis.call('LREM', keys[1], 1, entry)
    elseif not behind and tonumber(string.match(entry, '^%d+')) > at then
      behind = entry
    end
  end
  -- It may be gone already, having taken longer than a window.
  if at + window <= now then return 0 end
  local entry = int(at) .. '-' .. args[3]
  if behind then
    redis.call('LINSERT', keys[1], 'BEFORE', behind, entry)
  else
    redis.call('RPUSH', keys[1], entry)
  end
  redis.call('PEXPIRE', keys[1], int(window + math.max(0, at - now)))
  return 1
end)
