-- Members by name, of conversations that may have very many: nothing here goes through all of them.
-- Adds and removes some. Arguments: time, entries kept, age kept, numbers, how many newcomers are logged by name at most,
-- how many to add, they, those to remove.
redis.register_function('gw1_enlist', function(keys, args)
  local rules, log = rules_of(args), live_log(keys[STATE])
  if not log then return { 'missing' } end
  if not numbered(log, 1, rules.numbers) then return { 'number', #log.numbers } end
  local joined, last, added, removed = int(log.seq), 6 + tonumber(args[6]), {}, {}
  for index = 7, last do
    if redis.call('HSETNX', keys[MEMBERS], args[index], joined) == 1 then added[#added + 1] = args[index] end
  end
  for index = last + 1, #args do
    if redis.call('HDEL', keys[MEMBERS], args[index]) == 1 then removed[#removed + 1] = args[index] end
  end
  if #added > 0 or #removed > 0 then
    log.version = log.version + 1
    redis.call('HSET', keys[STATE], 'ut', int(rules.now))
    -- The names of very many would be read again by everybody who reads the log.
    local named = #added <= tonumber(args[5]) and added or {}
    add_entry(keys, log, rules, 'o', members_record(named, removed, ''))
    if #removed > 0 then evict(keys, removed, rules.now) end
  end
  return { 'done', int(log.version), added, removed }
end)

-- The index of users who are in by now, two keys each: their conversations and their leases. Returns whose number in
-- order has a lease. Arguments: conversation, version.
redis.register_function('gw1_enlisted', function(keys, args)
  local present = {}
  for index = 1, #keys, 2 do
    local known = redis.call('HGET', keys[index], args[1])
    if not known or tonumber(known) < tonumber(args[2]) then redis.call('HSET', keys[index], args[1], args[2]) end
    if redis.call('EXISTS', keys[index + 1]) == 1 then present[#present + 1] = (index + 1) / 2 end
  end
  return present
end)

-- When these users joined: state and members of the conversation. Arguments: they.
redis.register_function { function_name = 'gw1_joined', flags = { 'no-writes' }, callback = function(keys, args)
  if not live_log(keys[1]) then return {} end
  return redis.call('HMGET', keys[2], unpack(args))
end }

-- Some of the members, or cursors, and where to go on: state of the conversation, and they. Arguments: where, about how
-- many.
redis.register_function { function_name = 'gw1_members', flags = { 'no-writes' }, callback = function(keys, args)
  if not live_log(keys[1]) then return { '0', {} } end
  return redis.call('HSCAN', keys[2], args[1], 'COUNT', args[2])
end }
