-- A user's integers: a sorted set "log\0sequence" by integer, and a hash of the highest sequence by log.
-- The empty field has the newest integer.
-- Arguments: pointers kept, how long a pointer's entry is, then log and sequence of each.
redis.register_function('gw1_assign', function(keys, args)
  local integers = {}
  for index = 3, #args, 2 do
    local pointer = args[index] .. '\0' .. args[index + 1]
    local known = redis.call('ZSCORE', keys[1], pointer)
    if not known then
      known = redis.call('HINCRBY', keys[2], '', 1)
      redis.call('ZADD', keys[1], int(known), pointer)
      local mark = redis.call('HGET', keys[2], args[index])
      if not mark or tonumber(mark) < tonumber(args[index + 1]) then
        redis.call('HSET', keys[2], args[index], args[index + 1])
      end
    end
    integers[#integers + 1] = int(tonumber(known))
  end
  redis.call('ZREMRANGEBYRANK', keys[1], 0, -1 - tonumber(args[1]))
  -- The hash stays: integers go on where they were, and nothing is told twice.
  redis.call('PEXPIRE', keys[1], args[2])
  return integers
end)

-- Pointers and their integers. Arguments: after, limit.
redis.register_function { function_name = 'gw1_pointers', flags = { 'no-writes' }, callback = function(keys, args)
  local found = redis.call('ZRANGEBYSCORE', keys[1], '(' .. args[1], '+inf', 'WITHSCORES', 'LIMIT', 0, args[2])
  local all = {}
  for index = 1, #found, 2 do
    all[#all + 1] = found[index]
    all[#all + 1] = int(tonumber(found[index + 1]))
  end
  return all
end }

redis.register_function { function_name = 'gw1_marks', flags = { 'no-writes' }, callback = function(keys)
  return redis.call('HGETALL', keys[2])
end }
