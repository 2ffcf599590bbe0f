-- A user's integers: a sorted set "log\0sequence" by integer, and a hash of the highest sequence by log. In that hash the
-- empty field has the newest integer, and ERA when the set was given its life: logs' names are longer.
-- The set is trimmed at every so many integers, and its life is renewed that many times in a life (RENEWED).
local ERA, TRIMMED = 'e', 64

-- The pointers of a call, which are the same for all its users: their names, sequences, and the places of their logs in
-- `fields`, which are asked for at once.
local function told(args)
  local fields, names, seqs, places, place = { '', ERA }, {}, {}, {}, {}
  for index = 3, #args, 2 do
    local log, seq = args[index], args[index + 1]
    if not place[log] then
      fields[#fields + 1] = log
      place[log] = #fields
    end
    names[#names + 1], seqs[#seqs + 1], places[#places + 1] = log .. '\0' .. seq, seq, place[log]
  end
  return fields, names, seqs, places
end

-- Keys: the set and the hash of each user. Arguments: pointers kept, how long one is kept, then log and sequence of each
-- pointer: every user gets them all. The integers are told user by user.
redis.register_function('gw1_assign', function(keys, args)
  local fields, names, seqs, places = told(args)
  local trim, life = int(TRIMMED - 2 - tonumber(args[1])), tonumber(args[2])
  -- By the server's time, also where another is given: it is what keys expire by. What is told at the end of an era still
  -- lasts for a life.
  local step = math.max(1, math.floor(life / RENEWED))
  local era, life = int(math.floor(clock('0') / step)), int(life + step)
  local integers, count = {}, 0
  for user = 1, #keys, 2 do
    local pointers, marks = keys[user], keys[user + 1]
    local known = redis.call('HMGET', marks, unpack(fields))
    local before = tonumber(known[1] or 0)
    local last = before
    for index = 1, #names do
      local integer = int(last + 1)
      if redis.call('ZADD', pointers, 'NX', integer, names[index]) == 1 then
        local at, seq = places[index], seqs[index]
        last = last + 1
        if known[at] and tonumber(known[at]) > tonumber(seq) then seq = known[at] end
        -- The hash stays: integers go on where they were, and nothing is told twice.
        redis.call('HSET', marks, '', integer, fields[at], seq)
        known[at] = seq
        if last % TRIMMED == 0 then redis.call('ZREMRANGEBYRANK', pointers, 0, trim) end
      else
        integer = redis.call('ZSCORE', pointers, names[index])
      end
      count = count + 1
      integers[count] = tonumber(integer)
    end
    if last > before and known[2] ~= era then
      redis.call('PEXPIRE', pointers, life)
      redis.call('HSET', marks, ERA, era)
    end
  end
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
