-- Nodes: what each said last ("seen state"), and until when it is live.
-- Keys: states by id, deadlines of ids. Arguments: time, lifetime, id, state.
redis.register_function('gw1_node_beat', function(keys, args)
  local now = clock(args[1])
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', keys[2], '-inf', int(now))) do
    redis.call('HDEL', keys[1], id)
    redis.call('ZREM', keys[2], id)
  end
  redis.call('HSET', keys[1], args[3], int(now) .. ' ' .. args[4])
  return redis.call('ZADD', keys[2], int(now + args[2]), args[3])
end)

-- Argument: time. Returns states in the order of ids.
redis.register_function { function_name = 'gw1_node_live', flags = { 'no-writes' }, callback = function(keys, args)
  local ids = redis.call('ZRANGEBYSCORE', keys[2], '(' .. int(clock(args[1])), '+inf')
  table.sort(ids)
  local states = {}
  for _, id in ipairs(ids) do states[#states + 1] = redis.call('HGET', keys[1], id) end
  return states
end }

-- Argument: id.
redis.register_function('gw1_node_leave', function(keys, args)
  redis.call('HDEL', keys[1], args[1])
  return redis.call('ZREM', keys[2], args[1])
end)
