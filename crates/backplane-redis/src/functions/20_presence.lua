-- Presence leases. Keys of a user: leases, announced status, rooms of the connections; of the partition: endings,
-- deadlines; channels of the user and of everybody. A lease is "status deadline lease mount".
-- Who is away for so long was never heard of.
local REMEMBERED = 30 * 24 * 3600 * 1000
local LEASES, ANNOUNCED, GUEST, ENDINGS, DEADLINES, OWN, ALL = 1, 2, 3, 4, 5, 6, 7

local function lease_of(value)
  local status, deadline, lease, mount = string.match(value, '^(%d) (%d+) (%d+) (.*)$')
  return { status = status, deadline = tonumber(deadline), lease = lease, mount = mount }
end

local function put_lease(keys, user, connection, lease)
  redis.call('HSET', keys[LEASES], connection,
    lease.status .. ' ' .. int(lease.deadline) .. ' ' .. lease.lease .. ' ' .. lease.mount)
  redis.call('ZADD', keys[DEADLINES], int(lease.deadline), user .. '\0' .. connection)
end

-- Publishes the user's status when it changed.
local function settle(keys, user, cause, now)
  local status = '0'
  for _, value in ipairs(redis.call('HVALS', keys[LEASES])) do
    local one = string.sub(value, 1, 1)
    if one > status then status = one end
  end
  local before = redis.call('HMGET', keys[ANNOUNCED], 's', 'seen')
  if (before[1] or '0') == status then return end
  redis.call('HSET', keys[ANNOUNCED], 's', status)
  if status == '0' then
    redis.call('PEXPIRE', keys[ANNOUNCED], REMEMBERED)
  else
    redis.call('PERSIST', keys[ANNOUNCED])
  end
  local told = 'p{"u":"' .. user .. '","s":' .. status .. ',"b":' .. (before[1] or '0') .. ',"l":' .. (before[2] or '0')
    .. ',"t":' .. int(now) .. ',"c":"' .. cause .. '"}'
  redis.call('SPUBLISH', keys[OWN], told)
  redis.call('SPUBLISH', keys[ALL], told)
end

-- Ends a lease: what it was in is put among the endings, for whoever reads them to leave. Settling is the caller's.
local function end_lease(keys, user, connection)
  local value = redis.call('HGET', keys[LEASES], connection)
  if not value then return nil end
  local lease, rooms = lease_of(value).lease, {}
  redis.call('HDEL', keys[LEASES], connection)
  redis.call('ZREM', keys[DEADLINES], user .. '\0' .. connection)
  for _, guest in ipairs(redis.call('SMEMBERS', keys[GUEST])) do
    local who, place = string.match(guest, '^(%Z+)%z(.*)$')
    if who == connection then
      redis.call('SREM', keys[GUEST], guest)
      local ending = user .. '\0' .. connection .. '\0' .. lease .. '\0' .. place
      redis.call('SADD', keys[ENDINGS], ending)
      rooms[#rooms + 1] = ending
    end
  end
  return rooms
end

-- Arguments: time, user, connection, mount, status or '', how long, most, whether a new one may come.
redis.register_function('gw1_touch', function(keys, args)
  local now, user, connection, status = clock(args[1]), args[2], args[3], args[5]
  local deadline, most = now + tonumber(args[6]), tonumber(args[7])
  local value = redis.call('HGET', keys[LEASES], connection)
  if not value and args[8] == '0' then return 'missing' end
  local lease
  if value then
    lease = lease_of(value)
    lease.deadline = math.max(lease.deadline, deadline)
    if status ~= '' then lease.status = status end
  else
    local live = 0
    for _, other in ipairs(redis.call('HVALS', keys[LEASES])) do
      other = lease_of(other)
      if other.mount == args[4] and other.deadline > now then live = live + 1 end
    end
    if most > 0 and live >= most then return 'many' end
    lease = { status = status ~= '' and status or '2', deadline = deadline, lease = int(stamp()), mount = args[4] }
  end
  put_lease(keys, user, connection, lease)
  redis.call('HSET', keys[ANNOUNCED], 'seen', int(now))
  settle(keys, user, 'said', now)
  return 'ok'
end)

-- Arguments: time, user, connection. Returns the endings to be carried out.
redis.register_function('gw1_close', function(keys, args)
  local now = clock(args[1])
  local rooms = end_lease(keys, args[2], args[3])
  if not rooms then return {} end
  redis.call('HSET', keys[ANNOUNCED], 'seen', int(now))
  settle(keys, args[2], 'closed', now)
  return rooms
end)

-- Status, live connections, last seen. Argument: time.
redis.register_function { function_name = 'gw1_status', flags = { 'no-writes' }, callback = function(keys, args)
  local now, live = clock(args[1]), 0
  for _, value in ipairs(redis.call('HVALS', keys[LEASES])) do
    if lease_of(value).deadline > now then live = live + 1 end
  end
  local row = redis.call('HMGET', keys[ANNOUNCED], 's', 'seen')
  return { row[1] or '0', live, row[2] or '' }
end }

-- Writes down where a connection is about to enter, and returns its lease. Arguments: connection, conversations.
redis.register_function('gw1_guest', function(keys, args)
  local value = redis.call('HGET', keys[LEASES], args[1])
  if not value then return '' end
  for index = 2, #args do redis.call('SADD', keys[GUEST], args[1] .. '\0' .. args[index]) end
  return lease_of(value).lease
end)

-- Endings that were carried out. Arguments: they.
redis.register_function('gw1_ended', function(keys, args)
  return redis.call('SREM', keys[1], unpack(args))
end)
