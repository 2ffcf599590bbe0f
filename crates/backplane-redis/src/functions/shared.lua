-- Small values with a lifetime: "ends at, value"; the key's own lifetime only collects what is past it.
-- Arguments: time, lifetime or 0 for ever, value.
redis.register_function('gw1_save', function(keys, args)
  local life = tonumber(args[2])
  if life == 0 then return redis.call('SET', keys[1], '0 ' .. args[3]) end
  return redis.call('SET', keys[1], int(clock(args[1]) + life) .. ' ' .. args[3], 'PX', math.max(1, life))
end)

-- Argument: time.
redis.register_function { function_name = 'gw1_load', flags = { 'no-writes' }, callback = function(keys, args)
  local kept = redis.call('GET', keys[1])
  if not kept then return false end
  local space = string.find(kept, ' ', 1, true)
  local ends = tonumber(string.sub(kept, 1, space - 1))
  if ends ~= 0 and ends <= clock(args[1]) then return false end
  return string.sub(kept, space + 1)
end }

redis.register_function('gw1_remove', function(keys)
  return redis.call('DEL', keys[1])
end)
