-- Numbers: one counter for all, and who has which, by partition.
-- An emptied counter begins above all earlier ones as long as less than one number a second is used.
redis.register_function('gw1_next_number', function(keys, args)
  if redis.call('EXISTS', keys[1]) == 0 then
    redis.call('SET', keys[1], int(1073741824 + math.max(0, math.floor(clock(args[1]) / 1000) - 1735689600)))
  end
  return redis.call('INCR', keys[1])
end)

-- Takes a number for good, and says whose it is. Arguments: number, owner.
redis.register_function('gw1_claim', function(keys, args)
  if redis.call('HSETNX', keys[1], args[1], args[2]) == 1 then return { 'new', args[2] } end
  return { 'old', redis.call('HGET', keys[1], args[1]) }
end)

redis.register_function { function_name = 'gw1_owner', flags = { 'no-writes' }, callback = function(keys, args)
  return redis.call('HGET', keys[1], args[1])
end }
