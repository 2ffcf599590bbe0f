-- Reading a log. Arguments: time, after|before|since, bound, limit.
-- Returns head, first, epoch, more, ids and entries, numbers; nothing of a log that is not there.
local function first_since(keys, low, high, at)
  while low < high do
    local middle = low + math.floor((high - low) / 2)
    -- Sequences may be left free: the next entry decides.
    local entry = redis.call('XRANGE', keys[STREAM], int(middle), '+', 'COUNT', 1)[1]
    local seq, appended
    if entry then seq, appended = place_in(entry) end
    if entry and appended < at then low = seq + 1 else high = middle end
  end
  return low
end

redis.register_function { function_name = 'gw1_range', flags = { 'no-writes' }, callback = function(keys, args)
  local log = open_log(keys[STATE])
  if not log then return { redis.call('GET', keys[EPOCH]) or '0' } end
  local mode, bound, limit = args[2], tonumber(args[3]), tonumber(args[4])
  -- The log of a deleted conversation reads as empty, at the place where it ended.
  -- So does one nobody appended to for as long as entries are kept.
  local empty = (log.deleted and not log.lost) or redis.call('EXISTS', keys[STREAM]) == 0
  local first = empty and log.seq + 1 or math.max(log.first, 1)
  -- One more than asked for: whether there is one.
  local found
  if mode == 'before' then
    local to = math.max(math.min(bound, log.seq + 1), first)
    found = redis.call('XREVRANGE', keys[STREAM], int(to - 1), int(first), 'COUNT', int(limit + 1))
  else
    local from = math.max(bound + 1, first)
    if mode == 'since' then from = first_since(keys, first, log.seq + 1, bound) end
    found = redis.call('XRANGE', keys[STREAM], int(from), '+', 'COUNT', int(limit + 1))
  end
  local entries, count = {}, math.min(#found, limit)
  for index = 1, count do
    local entry = found[mode == 'before' and count + 1 - index or index]
    entries[2 * index - 1], entries[2 * index] = entry[1], entry[2][2]
  end
  return { log.seq, first, log.epoch, #found > limit and 1 or 0, entries, log.numbers }
end }

-- The epoch of a partition nobody wrote to yet.
redis.register_function('gw1_epoch', function(keys, args)
  return int(epoch_of(keys[1], clock(args[1])))
end)

-- The sequence a number's block and offset stand for, when it is kept. Arguments: number, block, sequence.
redis.register_function { function_name = 'gw1_holds', flags = { 'no-writes' }, callback = function(keys, args)
  local log = live_log(keys[STATE])
  if not log or log.numbers[tonumber(args[2]) + 1] ~= args[1] then return 0 end
  if args[3] ~= '' and not entry_at(keys, args[3]) then return 0 end
  return 1
end }
