-- Reading a log. Arguments: time, after|before|since, bound, limit.
-- Returns head, first, epoch, more, entries; nothing of a log that is not there.
local function first_since(keys, low, high, at)
  while low < high do
    local middle = low + math.floor((high - low) / 2)
    local entry = entry_at(keys, middle)
    if not entry or tonumber(string.match(entry[1], '%-(%d+)$')) < at then
      low = middle + 1
    else
      high = middle
    end
  end
  return low
end

redis.register_function { function_name = 'gw1_range', flags = { 'no-writes' }, callback = function(keys, args)
  local log = open_log(keys[STATE])
  if not log then return { redis.call('GET', keys[EPOCH]) or '0' } end
  local bound, limit = tonumber(args[3]), tonumber(args[4])
  -- The log of a deleted conversation reads as empty, at the place where it ended.
  local first = log.deleted and log.seq + 1 or math.max(log.first, 1)
  local from, to = first, log.seq + 1
  if args[2] == 'after' then
    from = math.max(bound + 1, first)
  elseif args[2] == 'since' then
    from = first_since(keys, first, to, bound)
  else
    to = math.max(math.min(bound, to), first)
    from = math.max(first, to - limit)
  end
  local entries = {}
  if from < to and limit > 0 then
    for _, entry in ipairs(redis.call('XRANGE', keys[STREAM], int(from), int(to - 1), 'COUNT', limit)) do
      entries[#entries + 1] = entry[2][2]
    end
  end
  local more = from > first
  if args[2] ~= 'before' then more = to - from > #entries end
  return { int(log.seq), int(first), int(log.epoch), more and 1 or 0, entries }
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
