-- Typing. Keys: members, typists and deadlines of the partition, channel. A typist is "deadline\0to\0author".
local function tell_typing(channel, typist, on, now)
  local to = ''
  for user in string.gmatch(typist.to, '%S+') do to = to .. (to == '' and '"' or ',"') .. user .. '"' end
  redis.call('SPUBLISH', channel, 't{"a":' .. typist.author .. ',"o":' .. (on and 'true' or 'false') .. ',"w":['
    .. to .. '],"u":' .. int(on and typist.deadline or now) .. ',"t":' .. int(now) .. '}')
end

local function typist_of(value)
  local deadline, to, author = string.match(value, '^(%d+)%z(%Z*)%z(.*)$')
  return { deadline = tonumber(deadline), to = to, author = author }
end

local function stop_typing(typists, deadlines, field, channel, now)
  local value = redis.call('HGET', typists, field)
  redis.call('ZREM', deadlines, field)
  if not value then return false end
  redis.call('HDEL', typists, field)
  tell_typing(channel, typist_of(value), false, now)
  return true
end

-- Whoever was told of the start is told of the stop, also when a heartbeat names others.
local function merged(before, to)
  if not before or to == '' then return to end
  if before.to == '' then return '' end
  local all = before.to
  for user in string.gmatch(to, '%S+') do
    if not string.find(' ' .. all .. ' ', ' ' .. user .. ' ', 1, true) then all = all .. ' ' .. user end
  end
  return all
end

-- Arguments: time, conversation, user, on, how long, author, to.
redis.register_function('gw1_typing', function(keys, args)
  local now, field, on = clock(args[1]), args[2] .. '\0' .. args[3], args[4] == '1'
  local value = redis.call('HGET', keys[2], field)
  if not (value and not on) and redis.call('HEXISTS', keys[1], args[3]) == 0 then return 'ignored' end
  if not on then
    return stop_typing(keys[2], keys[3], field, keys[4], now) and 'published' or 'refreshed'
  end
  local before = value and typist_of(value)
  -- A sweep may be late: silence that has lasted long enough ends before a new start.
  if before and before.deadline <= now then
    stop_typing(keys[2], keys[3], field, keys[4], now)
    before = nil
  end
  local typist = { deadline = now + tonumber(args[5]), to = merged(before, args[7]), author = before and before.author or args[6] }
  redis.call('HSET', keys[2], field, int(typist.deadline) .. '\0' .. typist.to .. '\0' .. typist.author)
  redis.call('ZADD', keys[3], int(typist.deadline), field)
  tell_typing(keys[4], typist, true, now)
  return before and 'refreshed' or 'published'
end)
