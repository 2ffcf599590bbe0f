-- Who is present in a conversation. Fields: user -> connections in; user\0connection -> asked for, lease, author.
local function tell_room(keys, author, flags, now)
  if not flags.flipped and not flags.explicit then return end
  local function bit(on) return on and 'true' or 'false' end
  redis.call('SPUBLISH', keys[CHANNEL], 'r{"a":' .. author .. ',"p":' .. bit(flags.present) .. ',"f":'
    .. bit(flags.flipped) .. ',"x":' .. bit(flags.explicit) .. ',"t":' .. int(now) .. '}')
end

local function entry_of(value)
  local asked, lease, author = string.match(value, '^(%d) (%d+) (.*)$')
  return { asked = asked == '1', lease = lease, author = author }
end

-- Takes users (everybody without a list) out: they are no members any more.
local function evict(keys, users, now)
  local wanted, authors = {}, {}
  for _, user in ipairs(users or {}) do
    if redis.call('HEXISTS', keys[ROOM], user) == 1 then wanted[user] = true end
  end
  -- Who goes is mostly not there, and a room may be large.
  if users and not next(wanted) then return end
  local all = redis.call('HGETALL', keys[ROOM])
  for index = 1, #all, 2 do
    local user, connection = string.match(all[index], '^(%Z+)%z(.*)$')
    if connection and (not users or wanted[user]) then
      authors[user] = entry_of(all[index + 1]).author
      redis.call('HDEL', keys[ROOM], all[index], user)
    end
  end
  for _, author in pairs(authors) do
    tell_room(keys, author, { present = false, flipped = true, explicit = false }, now)
  end
end

-- Arguments: time, user, connection, asked for, lease, author.
redis.register_function('gw1_enter', function(keys, args)
  local field, explicit = args[2] .. '\0' .. args[3], args[4] == '1'
  local before = redis.call('HGET', keys[ROOM], field)
  if before and entry_of(before).asked then explicit = true end
  redis.call('HSET', keys[ROOM], field, (explicit and '1 ' or '0 ') .. args[5] .. ' ' .. args[6])
  local flipped = false
  if not before then flipped = redis.call('HINCRBY', keys[ROOM], args[2], 1) == 1 end
  if before and entry_of(before).asked then return 0 end
  tell_room(keys, args[6], { present = true, flipped = flipped, explicit = args[4] == '1' }, clock(args[1]))
  return 1
end)

-- Arguments: time, user, connection, asked for, lease that ended or '', author or '' for the one that entered.
redis.register_function('gw1_leave', function(keys, args)
  local field = args[2] .. '\0' .. args[3]
  local value = redis.call('HGET', keys[ROOM], field)
  if not value then return 0 end
  local entry = entry_of(value)
  -- A late word of an earlier lease's end: the connection is in under a new one.
  if args[5] ~= '' and args[5] ~= entry.lease then return 0 end
  redis.call('HDEL', keys[ROOM], field)
  local flipped = redis.call('HINCRBY', keys[ROOM], args[2], -1) == 0
  if flipped then redis.call('HDEL', keys[ROOM], args[2]) end
  local author = args[6] ~= '' and args[6] or entry.author
  tell_room(keys, author, { present = false, flipped = flipped, explicit = args[4] == '1' }, clock(args[1]))
  return 1
end)

redis.register_function { function_name = 'gw1_present', flags = { 'no-writes' }, callback = function(keys)
  local present = {}
  for _, field in ipairs(redis.call('HKEYS', keys[ROOM])) do
    if not string.find(field, '%z') then present[#present + 1] = field end
  end
  return present
end }
