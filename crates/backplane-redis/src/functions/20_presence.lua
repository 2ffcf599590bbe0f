-- Presence leases. Keys: a user's leases and announced status, the partition's deadlines, the channels of the user and
-- of everybody; a user's places of the connections with the time of entering; the partition's endings by when they are
-- to be carried out. Who only takes a lease hands over the first five. A lease is "status length lease mount". Until when
-- it lasts is among the deadlines and nowhere else, so that one command prolongs many; its length before that the
-- connection was heard of.
-- Who is away for so long was never heard of.
local REMEMBERED = 30 * 24 * 3600 * 1000
-- An entering that was begun may arrive so late.
local ENTERING = 10000
-- Whoever ended a lease has so long to carry the endings out before others do.
local CARRYING = 2000
-- Words that are handed to one command at most: Lua's stack has an end.
local WORDS = 1000
-- Stands before the mount of a lease that lingers; alone, when its user has come back. No mount is named so.
local LINGERS = '~'
local LEASES, ANNOUNCED, DEADLINES, OWN, ALL, PLACES, ENDINGS = 1, 2, 3, 4, 5, 6, 7

local function lease_of(value)
  local status, length, lease, mount = string.match(value, '^(%d) (%d+) (%d+) (.*)$')
  return { status = status, length = tonumber(length), lease = lease, mount = mount }
end

-- Until when it lasts: never earlier than before.
local function put_lease(keys, user, connection, lease, deadline)
  redis.call('HSET', keys[LEASES], connection,
    string.format('%s %d %s %s', lease.status, lease.length, lease.lease, lease.mount))
  redis.call('ZADD', keys[DEADLINES], 'GT', int(deadline), user .. '\0' .. connection)
end

-- When each of these ends, false for one that is not there.
local function deadlines_of(key, members)
  local all = {}
  for from = 1, #members, WORDS do
    local some = redis.call('ZMSCORE', key, unpack(members, from, math.min(from + WORDS - 1, #members)))
    for _, deadline in ipairs(some) do all[#all + 1] = deadline and tonumber(deadline) end
  end
  return all
end

-- The statuses of a user's leases, how many are live, and when the user was heard of through them.
local function leases_of(keys, user, now)
  local all, statuses, members, live, heard = redis.call('HGETALL', keys[LEASES]), {}, {}, 0, 0
  if #all == 0 then return statuses, live, heard end
  for index = 1, #all, 2 do members[#members + 1] = user .. '\0' .. all[index] end
  for index, deadline in ipairs(deadlines_of(keys[DEADLINES], members)) do
    local lease = lease_of(all[index * 2])
    statuses[index], deadline = lease.status, deadline or 0
    if deadline > now and string.sub(lease.mount, 1, 1) ~= LINGERS then live = live + 1 end
    heard = math.max(heard, math.min(deadline - lease.length, now))
  end
  return statuses, live, heard
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
  if TRAILED.p then trail(keys[LEASES], user, word) end
end

-- A connection came or went. Of one that lingered until its user was back it is not known any more where it was.
local function keep_connection(keys, user, connection, mount, on, now)
  if not TRAILED.l then return end
  if string.sub(mount, 1, 1) == LINGERS then mount = string.sub(mount, 2) end
  trail(keys[LEASES], user, 'l{"u":"' .. user .. '","i":' .. cjson.encode(connection) .. ',"m":' .. cjson.encode(mount)
    .. ',"o":' .. (on and 'true' or 'false') .. ',"t":' .. int(now) .. '}')
end

-- Publishes the user's status when it changed. Seen: when the user was heard of.
local function announce(keys, user, status, told, now, seen)
  local before = redis.call('HMGET', keys[ANNOUNCED], 's', 'seen')
  local old = before[1] or '0'
  seen = int(math.max(seen, tonumber(before[2] or '0')))
  if old == status then
    if seen ~= before[2] then redis.call('HSET', keys[ANNOUNCED], 'seen', seen) end
    return
  end
  redis.call('HSET', keys[ANNOUNCED], 'seen', seen, 's', status)
  if status == '0' then
    redis.call('PEXPIRE', keys[ANNOUNCED], REMEMBERED)
  elseif before[1] then
    -- Only what was announced as offline expires.
    redis.call('PERSIST', keys[ANNOUNCED])
  end
  publish_status(keys, user, status, old, seen, int(now), told)
end

-- The same, by the leases there are.
local function settle(keys, user, cause, now, seen)
  local statuses, _, heard = leases_of(keys, user, now)
  announce(keys, user, strongest(statuses), cause, now, math.max(seen, heard))
end

-- Ends a lease: what it was in is put among the endings, for whoever reads them to leave. An ending says until when
-- an entering may still be under way: it is carried out once more then. Settling is the caller's. Returns these, and how
-- long a lease it was.
local function end_lease(keys, user, connection, now)
  local value = redis.call('HGET', keys[LEASES], connection)
  if not value then return nil end
  local ended, rooms = lease_of(value), {}
  redis.call('HDEL', keys[LEASES], connection)
  redis.call('ZREM', keys[DEADLINES], user .. '\0' .. connection)
  keep_connection(keys, user, connection, ended.mount, false, now)
  local places = redis.call('HGETALL', keys[PLACES])
  for index = 1, #places, 2 do
    local who, place = string.match(places[index], '^(%Z+)%z(.*)$')
    if who == connection then
      redis.call('HDEL', keys[PLACES], places[index])
      local ending = user .. '\0' .. connection .. '\0' .. ended.lease .. '\0' .. place .. '\0'
        .. int(places[index + 1] + ENTERING)
      redis.call('ZADD', keys[ENDINGS], int(now + CARRYING), ending)
      rooms[#rooms + 1] = ending
    end
  end
  return rooms, ended.length
end

-- The only lease of a user: what was announced is that nobody is there, and need not be asked for. Who is there without
-- showing it is for `announce`.
local function come(keys, user, connection, lease, deadline, now)
  put_lease(keys, user, connection, lease, deadline)
  keep_connection(keys, user, connection, lease.mount, true, now)
  if lease.status == '0' then return announce(keys, user, '0', 'said', now, now) end
  local seen = int(now)
  -- Where something was announced before, it expires.
  if redis.call('HSET', keys[ANNOUNCED], 'seen', seen, 's', lease.status) < 2 then
    redis.call('PERSIST', keys[ANNOUNCED])
  end
  publish_status(keys, user, lease.status, '0', seen, seen, 'said')
end

-- One of a mount that lingered has nothing to wait for any more: it ends when its successor has joined what it was in.
local function come_back(keys, user, connection, lease, ends)
  lease.mount = LINGERS
  redis.call('HSET', keys[LEASES], connection,
    string.format('%s %d %s %s', lease.status, lease.length, lease.lease, lease.mount))
  redis.call('ZADD', keys[DEADLINES], 'XX', 'LT', int(ends), user .. '\0' .. connection)
end

-- Arguments: time, user, connection, mount, status or '', how long, most, its length, within what something that lingered
-- ends.
redis.register_function('gw1_touch', function(keys, args)
  local mark, user, connection, status = stamp(), args[2], args[3], args[5]
  local now = args[1] == '0' and math.floor(mark / 1000) or tonumber(args[1])
  local deadline, most, length = now + args[6], tonumber(args[7]), tonumber(args[8])
  local fresh = { status = status ~= '' and status or '2', length = length, lease = int(mark), mount = args[4] }
  local all = redis.call('HGETALL', keys[LEASES])
  if #all == 0 then
    come(keys, user, connection, fresh, deadline, now)
    return 'ok'
  end
  local others, beside, lease, lingering = {}, {}, nil, nil
  for index = 1, #all, 2 do
    local value = all[index + 1]
    if all[index] == connection then
      lease = lease_of(value)
    else
      others[#others + 1] = value
      local other = lease_of(value)
      if most > 0 and other.mount == args[4] then beside[#beside + 1] = user .. '\0' .. all[index] end
      if other.mount == LINGERS .. args[4] and (not lingering or all[index] < lingering[1]) then
        lingering = { all[index], other }
      end
    end
  end
  if lease then
    lease.length, lease.mount = length, args[4]
    if status ~= '' then lease.status = status end
  else
    local live = 0
    for _, ends in ipairs(deadlines_of(keys[DEADLINES], beside)) do
      if ends and ends > now then live = live + 1 end
    end
    if most > 0 and live >= most then return 'many' end
    if lingering then come_back(keys, user, lingering[1], lingering[2], now + args[9]) end
    lease = fresh
    keep_connection(keys, user, connection, lease.mount, true, now)
  end
  put_lease(keys, user, connection, lease, deadline)
  others[#others + 1] = lease.status
  announce(keys, user, strongest(others), 'said', now, now)
  return 'ok'
end)

-- Leaves a lease to its deadline, which is moved as by a touch. Arguments: time, user, connection, how long.
redis.register_function('gw1_linger', function(keys, args)
  local value = redis.call('HGET', keys[LEASES], args[3])
  if not value then return 0 end
  local lease = lease_of(value)
  if string.sub(lease.mount, 1, 1) ~= LINGERS then lease.mount = LINGERS .. lease.mount end
  put_lease(keys, args[2], args[3], lease, clock(args[1]) + args[4])
  return 1
end)

-- Arguments: time, user, connection. Returns the endings to be carried out.
redis.register_function('gw1_close', function(keys, args)
  local now = clock(args[1])
  local rooms = end_lease(keys, args[2], args[3], now)
  if not rooms then return {} end
  settle(keys, args[2], 'closed', now, now)
  return rooms
end)

-- Status, live connections, last seen. Arguments: time, user.
redis.register_function { function_name = 'gw1_status', flags = { 'no-writes' }, callback = function(keys, args)
  local _, live, heard = leases_of(keys, args[2], clock(args[1]))
  local row = redis.call('HMGET', keys[ANNOUNCED], 's', 'seen')
  local seen = math.max(heard, tonumber(row[2] or '0'))
  return { row[1] or '0', live, seen > 0 and int(seen) or '' }
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

-- Prolongs leases. Keys: the deadlines of partitions. Arguments: time, what a prolongation is worth; and of each key: how
-- many leases, they ("user NUL connection"), how long each. Returns the places (from 0) of those that had ended.
redis.register_function('gw1_prolong', function(keys, args)
  local now, worth, missing, before, place = clock(args[1]), tonumber(args[2]), {}, 3, 0
  for _, key in ipairs(keys) do
    local count, moved = tonumber(args[before]), {}
    local ends = redis.call('ZMSCORE', key, unpack(args, before + 1, before + count))
    for index = 1, count do
      local deadline = now + args[before + count + index]
      if not ends[index] then
        missing[#missing + 1] = place + index - 1
      elseif deadline >= ends[index] + worth then
        moved[#moved + 1], moved[#moved + 2] = int(deadline), args[before + index]
      end
    end
    if #moved > 0 then redis.call('ZADD', key, 'GT', unpack(moved)) end
    before, place = before + 1 + 2 * count, place + count
  end
  return missing
end)
