-- A member's message: membership, dedupe, append and publication in one step.
-- Arguments: time, entries kept, age kept, numbers, sender, client id or '', dedupe window, record.
redis.register_function('gw1_append', function(keys, args)
  local rules = rules_of(args)
  local log = live_log(keys[STATE])
  if not log then return { 'gone' } end
  -- Before dedupe: who is no member learns nothing of what is in the log.
  if redis.call('HEXISTS', keys[MEMBERS], args[5]) == 0 then return { 'stranger' } end
  local field, window = args[5] .. '\0' .. args[6], tonumber(args[7])
  if args[6] ~= '' then
    local seq, at = known_client(keys[CLIENTS], field, log, rules.now, window)
    if seq then return { 'known', place_of(log, seq, at) } end
  end
  if not numbered(log, 1, rules.numbers) then return { 'number', int(#log.numbers) } end
  local stored = add_entry(keys, log, rules, 'm', args[8])
  if args[6] ~= '' then remember_client(keys[CLIENTS], field, log, rules.now, window) end
  return stored
end)

-- A feed's or channel's entry, once where it has a name; the log is made when it is not there.
-- Arguments: time, entries kept, age kept, numbers, name or '', dedupe window, record.
redis.register_function('gw1_post', function(keys, args)
  local rules = rules_of(args)
  local log = live_log(keys[STATE]) or fresh_log(epoch_of(keys[EPOCH], rules.now))
  local window = tonumber(args[6])
  if args[5] ~= '' then
    local seq, at = known_client(keys[CLIENTS], args[5], log, rules.now, window)
    if seq then return { 'known', place_of(log, seq, at) } end
  end
  if not numbered(log, 1, rules.numbers) then return { 'number', int(#log.numbers) } end
  local stored = add_entry(keys, log, rules, 'o', args[7])
  if args[5] ~= '' then remember_client(keys[CLIENTS], args[5], log, rules.now, window) end
  return stored
end)

-- What a client id stands for. Arguments: time, sender, client id, dedupe window.
redis.register_function('gw1_known', function(keys, args)
  local log = live_log(keys[STATE])
  if not log then return {} end
  local field = args[2] .. '\0' .. args[3]
  local seq, at = known_client(keys[CLIENTS], field, log, clock(args[1]), tonumber(args[4]))
  if not seq then return {} end
  return { int(seq), int(at) }
end)
