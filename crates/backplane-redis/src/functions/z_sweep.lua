-- Ends what is past its deadline in one partition: leases and typists, so many of each at most.
-- Keys: sweep state, endings, deadlines, typists, their deadlines, channel of everybody's presence, and the stems of
-- leases, announced statuses, rooms of connections, channels of users and of conversations. Arguments: time, most.
-- Longer than SILENCE without a sweep means that the nodes could not refresh either: for GRACE nothing ends.
local SILENCE, GRACE = 3000, 15000

-- Until when nothing ends.
local function grace_of(state, now)
  local row = redis.call('HMGET', state, 'last', 'grace')
  local grace = tonumber(row[2] or '0')
  if row[1] and now - tonumber(row[1]) > SILENCE then
    grace = now + GRACE
    redis.call('HSET', state, 'grace', int(grace))
  end
  redis.call('HSET', state, 'last', int(now))
  return grace
end

-- Milliseconds until something is due here, -1 when there is nothing at all.
local function idle_for(keys, now, grace)
  local due = -1
  for index, least in pairs({ [2] = now, [3] = grace, [5] = now }) do
    local first = redis.call('ZRANGE', keys[index], 0, 0, 'WITHSCORES')[2]
    if first then
      local left = math.max(0, tonumber(first) - now, least - now)
      if due < 0 or left < due then due = left end
    end
  end
  return due
end

redis.register_function('gw1_sweep', function(keys, args)
  local now, leases, typists, users, order, endings = clock(args[1]), 0, 0, {}, {}, {}
  local grace = grace_of(keys[1], now)
  if now >= grace then
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', keys[3], '-inf', int(now), 'LIMIT', 0, args[2])) do
      local user, connection = string.match(member, '^(%Z+)%z(.*)$')
      redis.call('ZREM', keys[3], member)
      local rooms = end_lease(keys_of(keys, user), user, connection, now)
      if rooms then leases = leases + 1 end
      for _, ending in ipairs(rooms or {}) do endings[#endings + 1] = ending end
      if not users[user] then
        users[user] = true
        order[#order + 1] = user
      end
    end
    for _, user in ipairs(order) do settle(keys_of(keys, user), user, 'expired', now) end
  end
  for _, field in ipairs(redis.call('ZRANGEBYSCORE', keys[5], '-inf', int(now), 'LIMIT', 0, args[2])) do
    local place = string.match(field, '^(%Z+)%z')
    if stop_typing(keys[4], keys[5], field, keys[11] .. place, now) then typists = typists + 1 end
  end
  -- Also those of a node that went away before it carried them out, and what may have been entered late.
  for _, ending in ipairs(redis.call('ZRANGEBYSCORE', keys[2], '-inf', int(now), 'LIMIT', 0, args[2])) do
    redis.call('ZADD', keys[2], int(now + CARRYING), ending)
    endings[#endings + 1] = ending
  end
  return { leases, typists, endings, idle_for(keys, now, grace) }
end)
