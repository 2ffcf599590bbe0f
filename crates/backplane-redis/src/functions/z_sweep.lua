-- Ends what is past its deadline in one partition: leases and typists, so many of each at most.
-- Keys: sweep state, endings, deadlines, typists, their deadlines, channel of everybody's presence, and the stems of
-- leases, announced statuses, rooms of connections, channels of users and of conversations. Arguments: time, most.
-- Longer than SILENCE without a sweep means that the nodes could not refresh either: for GRACE nothing ends.
local SILENCE, GRACE = 3000, 15000

local function keys_of(keys, user)
  return { keys[7] .. user, keys[8] .. user, keys[9] .. user, keys[2], keys[3], keys[10] .. user, keys[6] }
end

local function in_grace(state, now)
  local row = redis.call('HMGET', state, 'last', 'grace')
  local grace = tonumber(row[2] or '0')
  if row[1] and now - tonumber(row[1]) > SILENCE then
    grace = now + GRACE
    redis.call('HSET', state, 'grace', int(grace))
  end
  redis.call('HSET', state, 'last', int(now))
  return now < grace
end

redis.register_function('gw1_sweep', function(keys, args)
  local now, leases, typists, users, order = clock(args[1]), 0, 0, {}, {}
  if not in_grace(keys[1], now) then
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', keys[3], '-inf', int(now), 'LIMIT', 0, args[2])) do
      local user, connection = string.match(member, '^(%Z+)%z(.*)$')
      redis.call('ZREM', keys[3], member)
      if end_lease(keys_of(keys, user), user, connection) then leases = leases + 1 end
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
  -- Also those of a node that went away before it carried them out.
  local endings = redis.call('SRANDMEMBER', keys[2], args[2])
  return { leases, typists, endings }
end)
