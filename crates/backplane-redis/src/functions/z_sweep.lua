-- Ends what is past its deadline in partitions: leases and typists, so many at most in one call.
-- Keys, of each partition: sweep state, endings, deadlines, typists, their deadlines, channel of everybody's presence, and
-- the stems of leases, announced statuses, rooms of connections, channels of users and of conversations. Arguments: time, most.
-- Longer than SILENCE without a sweep means that the nodes could not refresh either: for GRACE nothing ends.
local SILENCE, GRACE = 3000, 15000

local STATE, ENDINGS_AT, LEASES_AT, TYPISTS_AT = 1, 2, 3, 5
local KEYS_OF_ONE = 11
local NONE = {}

-- Until when nothing ends. When it was looked here last is noted, and behind it, while it lasts, the grace.
local function grace_of(state, now)
  local before = redis.call('SET', state, int(now), 'GET')
  if not before then return 0 end
  local last, grace = string.match(before, '^(%d+) ?(%d*)$')
  grace = tonumber(grace) or 0
  if now - tonumber(last) > SILENCE then grace = now + GRACE end
  if grace > now then redis.call('SET', state, int(now) .. ' ' .. int(grace)) end
  return grace
end

-- Milliseconds until the first of a sorted set of deadlines, nil when it is empty.
local function left_of(key, now)
  local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
  return first and math.max(0, tonumber(first) - now)
end

local function due_of(key, now, most, ...)
  return redis.call('ZRANGEBYSCORE', key, '-inf', int(now), 'LIMIT', 0, most, ...)
end

-- A user's keys, from those of the partition (keys.rs, `sweep`).
local function keys_of(keys, user)
  return { keys[7] .. user, keys[8] .. user, keys[3], keys[10] .. user, keys[6], keys[9] .. user, keys[2] }
end

-- Ends leases: how many there were, and what has to be left now.
local function end_leases(keys, now, most)
  local count, heard, order, endings = 0, {}, {}, {}
  local due = due_of(keys[LEASES_AT], now, most, 'WITHSCORES')
  for index = 1, #due, 2 do
    local user, connection = string.match(due[index], '^(%Z+)%z(.*)$')
    redis.call('ZREM', keys[LEASES_AT], due[index])
    local rooms, length = end_lease(keys_of(keys, user), user, connection, now)
    if rooms then count = count + 1 end
    for _, ending in ipairs(rooms or {}) do endings[#endings + 1] = ending end
    if not heard[user] then
      heard[user] = 0
      order[#order + 1] = user
    end
    if rooms then heard[user] = math.max(heard[user], due[index + 1] - length) end
  end
  for _, user in ipairs(order) do settle(keys_of(keys, user), user, 'expired', now, heard[user]) end
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

-- The earlier one, of which either may be nil.
local function sooner(one, other)
  if one and other then return math.min(one, other) end
  return one or other
end

-- Answers: leases and typists that were ended, endings to be carried out, milliseconds until something is due here (-1 when
-- there is nothing at all), and by how many milliseconds the most overdue of what was ended was. Room is how many more may
-- be ended in this call.
local function sweep(keys, now, room, grace)
  local function left_at(at) return left_of(keys[at], now) end
  local leases, typists, endings, late = 0, 0, {}, 0
  -- Before they are ended: the first of each is the most overdue.
  local function overdue_at(at)
    local first = redis.call('ZRANGE', keys[at], 0, 0, 'WITHSCORES')[2]
    late = math.max(late, first and now - tonumber(first) or 0)
  end
  if room > 0 and left_at(LEASES_AT) == 0 and now >= grace then
    overdue_at(LEASES_AT)
    leases, endings = end_leases(keys, now, room)
  end
  if room > 0 and left_at(TYPISTS_AT) == 0 then
    overdue_at(TYPISTS_AT)
    typists = end_typists(keys, now, room)
  end
  if room > 0 and left_at(ENDINGS_AT) == 0 then
    -- Also those of a node that went away before it carried them out, and what may have been entered late.
    for _, ending in ipairs(due_of(keys[ENDINGS_AT], now, room)) do
      redis.call('ZADD', keys[ENDINGS_AT], int(now + CARRYING), ending)
      endings[#endings + 1] = ending
    end
  end
  local next = left_at(LEASES_AT)
  if next then next = math.max(next, grace - now) end
  next = sooner(next, sooner(left_at(TYPISTS_AT), left_at(ENDINGS_AT)))
  if #endings > 0 then next = sooner(next, CARRYING) end
  return { leases, typists, endings, next or -1, late }
end

-- Most often nothing is due, and nobody types: then three commands find that out.
redis.register_function('gw1_sweep', function(keys, args)
  local now, room, all = clock(args[1]), tonumber(args[2]), {}
  for from = 0, #keys - 1, KEYS_OF_ONE do
    local grace = grace_of(keys[from + STATE], now)
    local leases = left_of(keys[from + LEASES_AT], now)
    local next = nil
    if redis.call('EXISTS', keys[from + TYPISTS_AT], keys[from + ENDINGS_AT]) > 0 then
      next = sooner(left_of(keys[from + TYPISTS_AT], now), left_of(keys[from + ENDINGS_AT], now))
    end
    if leases then next = sooner(next, math.max(leases, grace - now)) end
    local one
    if next == 0 then
      one = sweep({ unpack(keys, from + 1, from + KEYS_OF_ONE) }, now, room, grace)
      room = room - one[1] - one[2] - #one[3]
    else
      one = { 0, 0, NONE, next or -1 }
    end
    all[#all + 1] = one
  end
  return all
end)
