-- Creating and changing conversations.
-- Members who are more than `most` are left out, and that is said; without `most` none are.
local function described(keys, log, most)
  local meta = redis.call('HMGET', keys[STATE], 'k', 'ti', 'by', 'ct', 'ut')
  local many = most and redis.call('HLEN', keys[MEMBERS]) > tonumber(most)
  return { head_of(log), table.concat(log.numbers, ','), meta[1] or '', meta[2] or false, meta[3] or false,
    meta[4] or '0', meta[5] or '0', many and {} or redis.call('HGETALL', keys[MEMBERS]), many and 1 or 0 }
end

-- Reads `count` words from `from` on, as a list and as a set.
local function words(args, from, count)
  local list, set = {}, {}
  for index = from, from + count - 1 do
    list[#list + 1] = args[index]
    set[args[index]] = true
  end
  return list, set
end

local function quoted(list) return '["' .. table.concat(list, '","') .. '"]' end

local function members_record(added, removed, by)
  local parts = {}
  if #added > 0 then parts[#parts + 1] = '"a":' .. quoted(added) end
  if #removed > 0 then parts[#parts + 1] = '"d":' .. quoted(removed) end
  if by ~= '' then parts[#parts + 1] = '"b":"' .. by .. '"' end
  return '{"u":{' .. table.concat(parts, ',') .. '}}'
end

-- Who comes and who goes.
local function difference(keys, change)
  local added, removed = {}, {}
  for _, user in ipairs(change.add) do
    if redis.call('HEXISTS', keys[MEMBERS], user) == 0 then added[#added + 1] = user end
  end
  if change.exactly then
    for _, user in ipairs(redis.call('HKEYS', keys[MEMBERS])) do
      if not change.wanted[user] then removed[#removed + 1] = user end
    end
    table.sort(removed)
  else
    for _, user in ipairs(change.remove) do
      if redis.call('HEXISTS', keys[MEMBERS], user) == 1 then removed[#removed + 1] = user end
    end
  end
  return added, removed
end

-- The log of a new conversation: sequence, time and versions go on where an earlier life ended. One that was lost keeps
-- its number, unless another one is asked for, and the record of its loss.
local function reborn(keys, log, now, asked)
  local fresh = fresh_log(epoch_of(keys[EPOCH], now))
  if not log then return fresh end
  fresh.seq, fresh.at, fresh.version, fresh.cursors = log.seq, log.at, log.version, log.cursors
  fresh.epoch, fresh.since, fresh.born = log.epoch + 1, log.seq + 1, log.seq + 1
  fresh.bucket, fresh.older = log.bucket, log.older
  if log.lost then
    fresh.first = log.first
    if asked == '' or asked == log.numbers[1] then fresh.numbers = log.numbers end
  end
  return fresh
end

local function change_of(args)
  local adds = tonumber(args[13])
  local change = { create = args[5] == '1', only_create = args[6] == '1', kind = args[7], retitle = args[8],
    title = args[9], title_json = args[10], by = args[11], exactly = args[12] == 'exactly' }
  change.add, change.wanted = words(args, 14, adds)
  change.remove = words(args, 15 + adds, tonumber(args[14 + adds]))
  change.number, change.most = args[15 + adds + #change.remove], args[16 + adds + #change.remove]
  return change
end

local function set_title(keys, change)
  if change.retitle == 'set' then
    redis.call('HSET', keys[STATE], 'ti', change.title)
  elseif change.retitle == 'none' then
    redis.call('HDEL', keys[STATE], 'ti')
  end
end

local function retitled(keys, change)
  local title = redis.call('HGET', keys[STATE], 'ti')
  if change.retitle == 'set' then return title ~= change.title end
  return change.retitle == 'none' and title ~= false
end

-- Arguments: time, entries kept, age kept, numbers, create, only create, kind, keep|none|set, title, its JSON,
-- by or '', exactly|delta, how many to add, they, how many to remove, they, the number asked for or '', and how many
-- members are told of at most.
redis.register_function('gw1_change', function(keys, args)
  local rules, change, log = rules_of(args), change_of(args), open_log(keys[STATE])
  local created, lost = not log or log.deleted, log and log.lost
  if created and not change.create then return { 'missing' } end
  if created then log = reborn(keys, log, rules.now, change.number) end
  local renamed = not created and retitled(keys, change)
  local added, removed = difference(keys, change)
  if not created and (change.only_create or not (renamed or #added > 0 or #removed > 0)) then
    return { 'done', 0, {}, {}, described(keys, log, change.most) }
  end
  if not numbered(log, 2, rules.numbers) then return { 'number', #log.numbers, int(lost and 0 or log.version) } end
  -- The members of one that was lost are told by the record of that.
  local joined = int(lost and log.seq - 1 or log.seq)
  for _, user in ipairs(added) do redis.call('HSET', keys[MEMBERS], user, joined) end
  for _, user in ipairs(removed) do redis.call('HDEL', keys[MEMBERS], user) end
  log.deleted, log.version = false, log.version + 1
  redis.call('HSET', keys[STATE], 'ut', int(rules.now))
  set_title(keys, change)
  if created then
    redis.call('HSET', keys[STATE], 'k', change.kind, 'ct', int(rules.now))
    if change.by ~= '' then redis.call('HSET', keys[STATE], 'by', change.by) end
    if TRAILED.n then
      trail(keys[STATE], text_of(keys[STATE]), 'n{"b":"' .. change.by .. '","t":' .. int(rules.now) .. '}')
    end
  end
  if created or #added > 0 or #removed > 0 then
    add_entry(keys, log, rules, 'o', members_record(added, removed, change.by))
  end
  if #removed > 0 then evict(keys, removed, rules.now) end
  if renamed then
    local title = change.retitle == 'set' and '"t":' .. change.title_json or ''
    local by = change.by ~= '' and '"b":"' .. change.by .. '"' or ''
    local comma = (title ~= '' and by ~= '') and ',' or ''
    add_entry(keys, log, rules, 'o', '{"t":{' .. title .. comma .. by .. '}}')
  end
  return { 'done', created and 1 or 0, added, removed, described(keys, log, change.most) }
end)

-- One conversation. Argument: how many members are told of at most.
redis.register_function { function_name = 'gw1_get', flags = { 'no-writes' }, callback = function(keys, args)
  local log = live_log(keys[STATE])
  if not log then return {} end
  return described(keys, log, args[1])
end }

-- Leaves a tombstone: sequence and epoch go on. Arguments: time, entries kept, age kept, numbers, and how many members
-- are told of at most: of one that has more nothing is done; '': none are told of.
redis.register_function('gw1_delete', function(keys, args)
  local rules, log = rules_of(args), open_log(keys[STATE])
  if not log or (log.deleted and not log.lost) then return { 'missing' } end
  if not numbered(log, 1, rules.numbers) then return { 'number', #log.numbers } end
  local most = tonumber(args[5])
  if most and redis.call('HLEN', keys[MEMBERS]) > most then return { 'many' } end
  local members = args[5] == '' and {} or redis.call('HKEYS', keys[MEMBERS])
  log.version = log.version + 1
  add_entry(keys, log, rules, 'o', '{"d":{}}')
  evict(keys, nil, rules.now)
  for _, key in ipairs { STREAM, MEMBERS, CURSORS, REACTED, REACTIONS, ROOM } do redis.call('UNLINK', keys[key]) end
  redis.call('HDEL', keys[STATE], 'k', 'ti', 'by', 'ct', 'ut')
  log.deleted, log.lost = true, false
  save_log(keys[STATE], log)
  return { 'done', int(log.version), members }
end)
