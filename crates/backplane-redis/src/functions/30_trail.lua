-- Trails (backplane/src/trail): one stream for each partition, one consumer group for each consumer. Keys: the stream, who
-- has the part (group -> until, node; `@` group -> when it was last named; `#dropped`), and the stem of what a group gave up.
local TRAIL, HOLDERS, DEAD = 1, 2, 3
local MOST_DEAD = 100000
local ABANDONED = 24 * 3600 * 1000

local function id_after(id)
  local at, number = string.match(id, '^(%d+)-(%d+)$')
  return at .. '-' .. int(number + 1)
end

-- Whether this node may take, and has the part from now on.
local function holds(keys, group, node, now, hold)
  local holder = redis.call('HGET', keys[HOLDERS], group)
  if holder then
    local ends, who = string.match(holder, '^(%d+) (.*)$')
    if who ~= node and tonumber(ends) > now then return false, tonumber(ends) - now end
  end
  redis.call('HSET', keys[HOLDERS], group, int(now + hold) .. ' ' .. node)
  return true
end

-- What every group has settled goes. A group that is new reads from what is there.
local function forget(key)
  local last, oldest = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1], nil
  if not last then return end
  for _, info in ipairs(redis.call('XINFO', 'GROUPS', key)) do
    local of = {}
    for index = 1, #info, 2 do of[info[index]] = info[index + 1] end
    local first = of['pending'] > 0 and redis.call('XPENDING', key, of['name'])[2] or id_after(of['last-delivered-id'])
    local at, number = string.match(first, '^(%d+)-(%d+)$')
    at, number = tonumber(at), tonumber(number)
    if not oldest or at < oldest[1] or (at == oldest[1] and number < oldest[2]) then oldest = { at, number } end
  end
  if oldest then redis.call('XTRIM', key, 'MINID', string.format('%d-%d', oldest[1], oldest[2])) end
end

local function steps_of(key, group, entries)
  local taken, all = {}, {}
  if #entries > 0 then
    local last = entries[#entries][1]
    for _, one in ipairs(redis.call('XPENDING', key, group, '-', last, #entries)) do taken[one[1]] = one[4] end
  end
  for _, entry in ipairs(entries) do all[#all + 1] = { entry[1], taken[entry[1]] or 1, entry[2] } end
  return all
end

-- Groups that somebody takes for, or could, are named again and again; one that is not, for long, holds nothing back.
local function abandon(keys, wanted, now)
  for _, group in ipairs(wanted) do redis.call('HSET', keys[HOLDERS], '@' .. group, int(now)) end
  for _, info in ipairs(redis.call('XINFO', 'GROUPS', keys[TRAIL])) do
    local of = {}
    for index = 1, #info, 2 do of[info[index]] = info[index + 1] end
    local named = '@' .. of['name']
    local last = tonumber(redis.call('HGET', keys[HOLDERS], named))
    if not last then
      redis.call('HSET', keys[HOLDERS], named, int(now))
    elseif now - last > ABANDONED then
      redis.call('XGROUP', 'DESTROY', keys[TRAIL], of['name'])
      redis.call('HDEL', keys[HOLDERS], named)
    end
  end
end

-- What is pending comes again, in its order, before anything that is new: only who has the part takes.
-- Arguments: time, group, node, how long it has the part, how many at most, and every group there is to be: who comes to this
-- part later than another one, which may have settled what is there by then, misses nothing of it.
redis.register_function('gw1_trail_take', function(keys, args)
  local now, group, node, most = clock(args[1]), args[2], args[3], args[5]
  local mine, wait = holds(keys, group, node, now, tonumber(args[4]))
  if not mine then return { 'held', wait } end
  if redis.call('EXISTS', keys[TRAIL]) == 0 then
    redis.call('HDEL', keys[HOLDERS], group)
    return { 'steps', {} }
  end
  pcall(redis.call, 'XGROUP', 'CREATE', keys[TRAIL], group, '0')
  for index = 6, #args do pcall(redis.call, 'XGROUP', 'CREATE', keys[TRAIL], args[index], '0') end
  abandon(keys, { group, unpack(args, 6) }, now)
  local entries = redis.call('XAUTOCLAIM', keys[TRAIL], group, node, 0, '0', 'COUNT', most)[2]
  if #entries == 0 then
    local read = redis.call('XREADGROUP', 'GROUP', group, node, 'COUNT', most, 'STREAMS', keys[TRAIL], '>')
    entries = read and read[1][2] or {}
  end
  if #entries == 0 then redis.call('HDEL', keys[HOLDERS], group) end
  return { 'steps', steps_of(keys[TRAIL], group, entries) }
end)

-- It keeps its id, also where it was put aside before.
local function bury(key, entry)
  local fields, known = entry[2], false
  for index = 1, #fields, 2 do known = known or fields[index] == 'i' end
  if not known then fields[#fields + 1], fields[#fields + 2] = 'i', entry[1] end
  redis.call('XADD', key, 'MAXLEN', '~', MOST_DEAD, '*', unpack(fields))
end

-- Arguments: time, group, node, how long it has the part, 1 where they are put aside, the ids.
redis.register_function('gw1_trail_settled', function(keys, args)
  local group = args[2]
  if not holds(keys, group, args[3], clock(args[1]), tonumber(args[4])) then return 0 end
  for index = 6, #args do
    local id = args[index]
    if args[5] == '1' then
      local entry = redis.call('XRANGE', keys[TRAIL], id, id)[1]
      if entry then bury(keys[DEAD] .. group, entry) end
    end
    redis.call('XACK', keys[TRAIL], group, id)
  end
  forget(keys[TRAIL])
  return 1
end)

-- What was put aside, the oldest first. Arguments: group, how many at most.
redis.register_function { function_name = 'gw1_trail_buried', flags = { 'no-writes' }, callback = function(keys, args)
  local all = {}
  for _, entry in ipairs(redis.call('XRANGE', keys[DEAD] .. args[1], '-', '+', 'COUNT', args[2])) do
    all[#all + 1] = { entry[1], 0, entry[2] }
  end
  return all
end }

-- Has it taken again. For the other groups it is nothing new: they leave it, by whom it is for. Arguments: group, how many.
redis.register_function('gw1_trail_revive', function(keys, args)
  local dead, count = keys[DEAD] .. args[1], 0
  for _, entry in ipairs(redis.call('XRANGE', dead, '-', '+', 'COUNT', args[2])) do
    local fields = entry[2]
    local to = false
    for index = 1, #fields, 2 do to = to or fields[index] == 'g' end
    if not to then fields[#fields + 1], fields[#fields + 2] = 'g', args[1] end
    redis.call('XADD', keys[TRAIL], '*', unpack(fields))
    redis.call('XDEL', dead, entry[1])
    count = count + 1
  end
  return count
end)

-- Of each partition (three keys each): how many steps a group has not settled, since when, and how many it gave up.
-- Argument: group.
redis.register_function { function_name = 'gw1_trail_backlog', flags = { 'no-writes' }, callback = function(keys, args)
  local all = {}
  for from = 0, #keys - 1, 3 do
    local trail, group, steps, since = keys[from + TRAIL], args[1], 0, 0
    if redis.call('EXISTS', trail) == 1 then
      local first = '0-0'
      for _, info in ipairs(redis.call('XINFO', 'GROUPS', trail)) do
        local of = {}
        for index = 1, #info, 2 do of[info[index]] = info[index + 1] end
        if of['name'] == group then
          first = of['pending'] > 0 and redis.call('XPENDING', trail, group)[2] or id_after(of['last-delivered-id'])
        end
      end
      local oldest = redis.call('XRANGE', trail, first, '+', 'COUNT', 1)[1]
      if oldest then
        since = tonumber(string.match(oldest[1], '^%d+'))
        -- Most often nobody else holds anything back.
        local newest = redis.call('XRANGE', trail, '-', '+', 'COUNT', 1)[1]
        steps = newest[1] == oldest[1] and redis.call('XLEN', trail) or #redis.call('XRANGE', trail, first, '+', 'COUNT', 10000)
      end
    end
    local dropped = tonumber(redis.call('HGET', keys[from + HOLDERS], '#dropped')) or 0
    all[#all + 1] = { steps, since, redis.call('XLEN', keys[from + DEAD] .. group), dropped }
  end
  return all
end }

-- How many steps lie in each part. Keys: the streams.
redis.register_function { function_name = 'gw1_trail_waiting', flags = { 'no-writes' }, callback = function(keys)
  local all = {}
  for _, key in ipairs(keys) do all[#all + 1] = redis.call('XLEN', key) end
  return all
end }
