-- A member's reaction, or its taking back; idempotent.
-- Arguments: time, entries kept, age kept, numbers, user, target, kind, added, record.
redis.register_function('gw1_react', function(keys, args)
  local rules = rules_of(args)
  local log = live_log(keys[STATE])
  if not log or redis.call('HEXISTS', keys[MEMBERS], args[5]) == 0 then return { 'stranger' } end
  local entry = entry_at(keys, args[6])
  if not entry or entry[2][1] ~= 'm' then return { 'missing' } end
  local field, added = args[6] .. '\0' .. args[7] .. '\0' .. args[5], args[8] == '1'
  local stands = redis.call('HGET', keys[REACTED], field)
  if stands and added then
    local seq, at = string.match(stands, '^(%d+) (%d+)$')
    return { 'known', place_of(log, tonumber(seq), tonumber(at)) }
  end
  if not stands and not added then return { 'same' } end
  if not numbered(log, 1, rules.numbers) then return { 'number', #log.numbers } end
  -- Before the append, which trims: the message it is for may be what goes.
  if added then
    local at = math.max(rules.now, log.at)
    redis.call('HSET', keys[REACTED], field, int(log.seq + 1) .. ' ' .. int(at))
    redis.call('ZADD', keys[REACTIONS], args[6], field)
    log.marked, log.lives = true, 0
  else
    redis.call('HDEL', keys[REACTED], field)
    redis.call('ZREM', keys[REACTIONS], field)
  end
  return add_entry(keys, log, rules, 'o', args[9])
end)

-- The reactions that stand. Arguments: time, first, last.
redis.register_function { function_name = 'gw1_standing', flags = { 'no-writes' }, callback = function(keys, args)
  local all = {}
  for _, field in ipairs(redis.call('ZRANGEBYSCORE', keys[REACTIONS], args[2], args[3])) do
    all[#all + 1] = field
    all[#all + 1] = redis.call('HGET', keys[REACTED], field)
  end
  return all
end }
