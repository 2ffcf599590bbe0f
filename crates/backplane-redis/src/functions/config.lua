-- What an installation settled at its first start: how many partitions there are. Argument: how many this build has.
redis.register_function('gw1_settle', function(keys, args)
  redis.call('HSETNX', keys[1], 'partitions', args[1])
  return redis.call('HGET', keys[1], 'partitions')
end)
