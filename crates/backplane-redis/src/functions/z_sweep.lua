-- Ends what is past its deadline in partitions: leases and typists, so many at most in one call.
-- Keys, of each partition: sweep state, endings, deadlines, typists, their deadlines, channel of everybody's presence, and
-- the stems of leases, announced statuses, rooms of connections, channels of users and of conversations. Arguments: time, most.
-- Longer than SILENCE without a sweep means that the nodes could not refresh either: for GRACE nothing ends.
local SILENCE, GRACE = 3000, 15000

local STATE, ENDINGS_AT, LEASES_AT, TYPISTS_AT = 1, 2, 3, 5
local KEYS_OF_ONE = 11

-- Until when nothing ends.
local function grace_of(state, now)
  local row = redis.call('HMGET', state, 'last', 'grace')
  local grace = tonumber(row[2] or '0')
  if row[1] and now - tonumber(row[1]) > SILENCE then
    grace = now + GRACE
    redis.call('HSET', state, 'last', int(now), 'grace', int(grace))
  else
    redis.call('HSET', state, 'last', int(now))
  end
  return grace
end

-- Milliseconds until the first of a sorted set of deadlines, nil when it is empty.
local function left_of(key, now)
  local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
  return first and math.max(0, tonumber(first) - now)
end

local function due_of(key, now, most)
  return redis.call('ZRANGEBYSCORE', key, '-inf', int(now), 'LIMIT', 0, most)
end

-- Ends leases: how many there were, and what has to be left now.
local function end_leases(keys, now, most)
  local count, users, order, endings = 0, {}, {}, {}
  for _, member in ipairs(due_of(keys[LEASES_AT], now, most)) do
    local user, connection = string.match(member, '^(%Z+)%z(.*)$')
    redis.call('ZREM', keys[LEASES_AT], member)
    local rooms = end_lease(keys_of(keys, user), user, connection, now)
    if rooms then count = count + 1 end
    for _, ending in ipairs(rooms or {}) do endings[#endings + 1] = ending end
    if not users[user] then
      users[user] = true
      order[#order + 1] = user
    end
  end
  for _, user in ipairs(order) do settle(keys_of(keys, user), user, 'expired', now) end
  return count, endings
end

local function end_typists(keys, now, most)
  local count = 0
  for _, field in ipairs(due_of(keys[TYPISTS_AT], now, most)) do
    local place = string.match(field, '^(%Z+)%z')
    if stop_typing(keys[4], keys[TYPISTS_AT], field, keys[11] .. place, now) then count = count + 1 end
  end
  return count
end

-- The first of what is due again, asked for once more: most often nothing was due and nothing has changed.
local function again(key, before, now)
  if before == 0 then return left_of(key, now) end
  return before
end

-- Answers: leases and typists that were ended, endings to be carried out, milliseconds until something is due here (-1 when
-- there is nothing at all). Here is how many more may be ended in this call.
local function sweep(keys, now, room)
  local grace = grace_of(keys[STATE], now)
  local left = {}
  for _, at in ipairs({ ENDINGS_AT, LEASES_AT, TYPISTS_AT }) do left[at] = left_of(keys[at], now) end
  local leases, typists, endings = 0, 0, {}
  if room > 0 and left[LEASES_AT] == 0 and now >= grace then
    leases, endings = end_leases(keys, now, room)
  end
  if room > 0 and left[TYPISTS_AT] == 0 then typists = end_typists(keys, now, room) end
  if room > 0 and left[ENDINGS_AT] == 0 then
    -- Also those of a node that went away before it carried them out, and what may have been entered late.
    for _, ending in ipairs(due_of(keys[ENDINGS_AT], now, room)) do
      redis.call('ZADD', keys[ENDINGS_AT], int(now + CARRYING), ending)
      endings[#endings + 1] = ending
    end
  end
  local due = -1
  for _, at in ipairs({ ENDINGS_AT, LEASES_AT, TYPISTS_AT }) do
    local next = again(keys[at], left[at], now)
    if next and at == LEASES_AT then next = math.max(next, grace - now) end
    if next and (due < 0 or next < due) then due = next end
  end
  if #endings > 0 and (due < 0 or due > CARRYING) then due = CARRYING end
  return { leases, typists, endings, due }
end

redis.register_function('gw1_sweep', function(keys, args)
  local now, room, all = clock(args[1]), tonumber(args[2]), {}
  for from = 1, #keys, KEYS_OF_ONE do
    local one = sweep({ unpack(keys, from, from + KEYS_OF_ONE - 1) }, now, room)
    room = room - one[1] - one[2] - #one[3]
    all[#all + 1] = one
  end
  return all
end)
