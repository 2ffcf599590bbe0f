-- What is kept by user about conversations elsewhere. It may name too much, never too little: readers ask there.
-- Conversations of users: field -> the version of the conversation that put it there, 0 for an intention.
-- Arguments: conversation, version. Every key is a user's index.
redis.register_function('gw1_belong', function(keys, args)
  for _, key in ipairs(keys) do
    local known = redis.call('HGET', key, args[1])
    if not known or tonumber(known) < tonumber(args[2]) then redis.call('HSET', key, args[1], args[2]) end
  end
  return #keys
end)

-- The same arguments: what a later change put there stays.
redis.register_function('gw1_unbelong', function(keys, args)
  for _, key in ipairs(keys) do
    local known = redis.call('HGET', key, args[1])
    if known and tonumber(known) <= tonumber(args[2]) then redis.call('HDEL', key, args[1]) end
  end
  return #keys
end)

redis.register_function { function_name = 'gw1_belongs', flags = { 'no-writes' }, callback = function(keys)
  return redis.call('HKEYS', keys[1])
end }

-- Arguments: time, client id, dedupe window, conversation.
redis.register_function('gw1_used', function(keys, args)
  note_use(keys[1], args[2], tonumber(args[3]), args[4], clock(args[1]))
  return 1
end)

-- Arguments: time, client id, dedupe window.
redis.register_function { function_name = 'gw1_uses', flags = { 'no-writes' }, callback = function(keys, args)
  local bucket = math.floor(clock(args[1]) / tonumber(args[3]))
  local now = redis.call('HGET', keys[1] .. int(bucket), args[2]) or ''
  return now .. ' ' .. (redis.call('HGET', keys[1] .. int(bucket - 1), args[2]) or '')
end }
