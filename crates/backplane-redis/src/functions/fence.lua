-- Noticing what a log lost.
-- Where logs of one partition stand: one state per key, and at last the partition's epoch.
redis.register_function { function_name = 'gw1_heads', flags = { 'no-writes' }, callback = function(keys)
  local heads, epoch = {}, redis.call('GET', keys[#keys]) or '0'
  for index = 1, #keys - 1 do
    local log = open_log(keys[index])
    local kind = log and (log.lost and 'lost' or log.deleted and 'deleted' or 'log')
    heads[index] = { kind or 'nothing', log and head_of(log) or { epoch } }
  end
  return heads
end }

-- What needs no fence.
local function verdict(keys, log, seen, rules)
  local now = rules.now
  if not log then
    local begun = seen.seq == 0 and (seen.epoch == 0 or seen.epoch == epoch_of(keys[EPOCH], now))
    return begun and 'there'
  end
  local other = seen.epoch ~= 0 and seen.epoch ~= log.epoch
  if log.since > seen.seq then return other and 'already' or 'there' end
  if log.deleted and not log.lost and seen.seq <= log.seq then return 'there' end
  if other or seen.seq > log.seq then return nil end
  if seen.at == 0 or (seen.seq == log.seq and seen.at == log.at) then return 'there' end
  local entry = entry_at(keys, seen.seq)
  -- Trimmed in its time, or all of the log in its.
  local idle = log.at + rules.oldest <= now and redis.call('EXISTS', keys[STREAM]) == 0
  if not entry then return (seen.seq < log.first or idle) and 'there' or nil end
  local _, at = place_in(entry)
  return at == seen.at and 'there' or nil
end

-- A user's integers go on above all that were ever given, with one for this entry.
local function leap(pointers, marks, margin, place)
  local last = redis.call('HGET', marks, '')
  local integer = int(last and tonumber(last) + margin or place.now)
  redis.call('ZADD', pointers, integer, place.log .. '\0' .. place.seq)
  redis.call('HSET', marks, '', integer, place.log, place.seq)
  -- As who assigns does at the beginning of an era.
  redis.call('PEXPIRE', pointers, int(place.life + math.floor(place.life / RENEWED) + 1))
end

-- Arguments: time, entries kept, age kept, numbers, sequence, time and epoch seen, the first that may be lost, margin,
-- the log, conversation or not. Behind a log's keys those of a user's integers.
redis.register_function('gw1_fence', function(keys, args)
  local rules, log = rules_of(args), open_log(keys[STATE])
  local seen = { seq = tonumber(args[5]), at = tonumber(args[6]), epoch = tonumber(args[7]) }
  local margin, told = tonumber(args[9]), verdict(keys, log, seen, rules)
  if told then return { told } end
  if not log then
    log = fresh_log(epoch_of(keys[EPOCH], rules.now))
    -- Names may be there still.
    log.bucket = MOST
    log.deleted, log.lost = args[11] == '1', args[11] == '1'
  end
  local target = math.max(log.seq, seen.seq) + margin
  if not numbered(log, target - log.seq, rules.numbers) then return { 'number', #log.numbers } end
  log.epoch, log.at = math.max(log.epoch, seen.epoch) + 1, math.max(log.at, seen.at)
  log.version, log.cursors = log.version + margin, log.cursors + margin
  log.seq, log.since = target - 1, target
  if log.deleted and not log.lost then
    save_log(keys[STATE], log)
    return { 'there' }
  end
  local stored = add_entry(keys, log, rules, 'o', '{"l":{"f":' .. args[8] .. ',"t":' .. int(target - 1) .. '}}')
  if keys[12] then leap(keys[11], keys[12], margin, { log = args[10], seq = int(target), now = rules.now, life = rules.oldest }) end
  return stored
end)
