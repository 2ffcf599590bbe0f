-- Presence leases. Keys: a user's leases and announced status, the partition's deadlines, the channels of the user and
-- of everybody; a user's places of the connections with the time of entering; the partition's endings by when they are
-- to be carried out. Who only takes a lease hands over the first five. A lease is "status deadline lease mount".
-- Who is away for so long was never heard of.
local REMEMBERED = 30 * 24 * 3600 * 1000
-- An entering that was begun may arrive so late.
local ENTERING = 10000
-- Whoever ended a lease has so long to carry the endings out before others do.
local CARRYING = 2000
local LEASES, ANNOUNCED, DEADLINES, OWN, ALL, PLACES, ENDINGS = 1, 2, 3, 4, 5, 6, 7

local function lease_of(value)
  local status, deadline, lease, mount = string.match(value, '^(%d) (%d+) (%d+) (.*)$')
  return { status = status, deadline = tonumber(deadline), lease = lease, mount = mount }
end

local function put_lease(keys, user, connection, lease)
  redis.call('HSET', keys[LEASES], connection,
    string.format('%s %d %s %s', lease.status, lease.deadline, lease.lease, lease.mount))
  redis.call('ZADD', keys[DEADLINES], int(lease.deadline), user .. '\0' .. connection)
end

-- The strongest of the statuses of leases.
local function strongest(leases)
  local status = '0'
  for _, value in ipairs(leases) do
    local one = string.sub(value, 1, 1)
    if one > status then status = one end
  end
  return status
end

local function publish_status(keys, user, status, before, seen, now, told)
  local word = 'p{"u":"' .. user .. '","s":' .. status .. ',"b":' .. before .. ',"l":' .. seen .. ',"t":' .. now
    .. ',"c":"' .. told .. '"}'
  redis.call('SPUBLISH', keys[OWN], word)
  redis.call('SPUBLISH', keys[ALL], word)
end

-- Publishes the user's status when it changed. Seen: what is to be remembered as the time the user was seen, or nil.
local function announce(keys, user, status, told, now, seen)
  local before = redis.call('HMGET', keys[ANNOUNCED], 's', 'seen')
  local old = before[1] or '0'
  if old == status then
    if seen then redis.call('HSET', keys[ANNOUNCED], 'seen', seen) end
    return
  end
  if seen then
    redis.call('HSET', keys[ANNOUNCED], 'seen', seen, 's', status)
  else
    redis.call('HSET', keys[ANNOUNCED], 's', status)
  end
  if status == '0' then
    redis.call('PEXPIRE', keys[ANNOUNCED], REMEMBERED)
  elseif before[1] then
    -- Only what was announced as offline expires.
    redis.call('PERSIST', keys[ANNOUNCED])
  end
  publish_status(keys, user, status, old, seen or before[2] or '0', int(now), told)
end

-- The same, by the leases there are.
local function settle(keys, user, cause, now, seen)
  announce(keys, user, strongest(redis.call('HVALS', keys[LEASES])), cause, now, seen)
end

-- Ends a lease: what it was in is put among the endings, for whoever reads them to leave. An ending says until when
-- an entering may still be under way: it is carried out once more then. Settling is the caller's.
local function end_lease(keys, user, connection, now)
  local value = redis.call('HGET', keys[LEASES], connection)
  if not value then return nil end
  local lease, rooms = lease_of(value).lease, {}
  redis.call('HDEL', keys[LEASES], connection)
  redis.call('ZREM', keys[DEADLINES], user .. '\0' .. connection)
  local places = redis.call('HGETALL', keys[PLACES])
  for index = 1, #places, 2 do
    local who, place = string.match(places[index], '^(%Z+)%z(.*)$')
    if who == connection then
      redis.call('HDEL', keys[PLACES], places[index])
      local ending = user .. '\0' .. connection .. '\0' .. lease .. '\0' .. place .. '\0'
        .. int(places[index + 1] + ENTERING)
      redis.call('ZADD', keys[ENDINGS], int(now + CARRYING), ending)
      rooms[#rooms + 1] = ending
    end
  end
  return rooms
end

-- The only lease of a user: what was announced is that nobody is there, and need not be asked for. Who is there without
-- showing it is for `announce`.
local function come(keys, user, connection, lease, now)
  put_lease(keys, user, connection, lease)
  local seen = int(now)
  if lease.status == '0' then return announce(keys, user, '0', 'said', now, seen) end
  -- Where something was announced before, it expires.
  if redis.call('HSET', keys[ANNOUNCED], 'seen', seen, 's', lease.status) < 2 then
    redis.call('PERSIST', keys[ANNOUNCED])
  end
  publish_status(keys, user, lease.status, '0', seen, seen, 'said')
end

-- Arguments: time, user, connection, mount, status or '', how long, most.
redis.register_function('gw1_touch', function(keys, args)
  local mark, user, connection, status = stamp(), args[2], args[3], args[5]
  local now = args[1] == '0' and math.floor(mark / 1000) or tonumber(args[1])
  local deadline, most = now + args[6], tonumber(args[7])
  local all = redis.call('HGETALL', keys[LEASES])
  if #all == 0 then
    come(keys, user, connection,
      { status = status ~= '' and status or '2', deadline = deadline, lease = int(mark), mount = args[4] }, now)
    return 'ok'
  end
  local others, live, lease = {}, 0, nil
  for index = 1, #all, 2 do
    local value = all[index + 1]
    if all[index] == connection then
      lease = lease_of(value)
    else
      others[#others + 1] = value
      local other = most > 0 and lease_of(value)
      if other and other.mount == args[4] and other.deadline > now then live = live + 1 end
    end
  end
  if lease then
    lease.deadline = math.max(lease.deadline, deadline)
    if status ~= '' then lease.status = status end
  else
    if most > 0 and live >= most then return 'many' end
    lease = { status = status ~= '' and status or '2', deadline = deadline, lease = int(mark), mount = args[4] }
  end
  put_lease(keys, user, connection, lease)
  others[#others + 1] = lease.status
  announce(keys, user, strongest(others), 'said', now, int(now))
  return 'ok'
end)

-- Arguments: time, user, connection. Returns the endings to be carried out.
redis.register_function('gw1_close', function(keys, args)
  local now = clock(args[1])
  local rooms = end_lease(keys, args[2], args[3], now)
  if not rooms then return {} end
  settle(keys, args[2], 'closed', now, int(now))
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

-- Writes down where a connection is about to enter, and returns its lease. Arguments: time, connection, conversations.
redis.register_function('gw1_guest', function(keys, args)
  local value, now = redis.call('HGET', keys[LEASES], args[2]), int(clock(args[1]))
  if not value then return '' end
  for index = 3, #args do redis.call('HSET', keys[PLACES], args[2] .. '\0' .. args[index], now) end
  return lease_of(value).lease
end)

-- Endings that were carried out. Arguments: time, they.
redis.register_function('gw1_ended', function(keys, args)
  local now = clock(args[1])
  for index = 2, #args do
    local again = string.match(args[index], '%d+$')
    if tonumber(again) > now then
      redis.call('ZADD', keys[1], 'XX', again, args[index])
    else
      redis.call('ZREM', keys[1], args[index])
    end
  end
end)

-- A user's keys, from those of the partition (keys.rs, `sweep`).
local function keys_of(keys, user)
  return { keys[7] .. user, keys[8] .. user, keys[3], keys[10] .. user, keys[6], keys[9] .. user, keys[2] }
end

-- Refreshes leases of one partition. Arguments: time, what a prolongation is worth, and of each: user, connection, status or '', how long.
-- Returns the places (from 0) of those that had ended.
redis.register_function('gw1_touch_many', function(keys, args)
  local now, worth, missing = clock(args[1]), tonumber(args[2]), {}
  for index = 3, #args, 4 do
    local user, connection, status = args[index], args[index + 1], args[index + 2]
    local value = redis.call('HGET', keys[7] .. user, connection)
    if value then
      local lease, deadline = lease_of(value), now + tonumber(args[index + 3])
      if status ~= '' or deadline >= lease.deadline + worth then
        local own = keys_of(keys, user)
        lease.deadline = math.max(lease.deadline, deadline)
        if status ~= '' then lease.status = status end
        put_lease(own, user, connection, lease)
        if status ~= '' then
          settle(own, user, 'said', now, int(now))
        else
          redis.call('HSET', own[ANNOUNCED], 'seen', int(now))
        end
      end
    else
      missing[#missing + 1] = (index - 3) / 4
    end
  end
  return missing
end)
