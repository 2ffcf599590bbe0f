-- What several verbs share: time, logs, appending. Every first argument is the time: 0 asks the server.
-- The keys of a log come in one order everywhere (keys.rs, `Log`).
local STATE, STREAM, MEMBERS, CURSORS, REACTED, REACTIONS, CLIENTS, ROOM, CHANNEL, EPOCH = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
-- Entries per number.
local BLOCK = 4194304
-- How much longer than the retention a log lies there that nobody appends to.
local LEEWAY = 1000

local function clock(given)
  if given ~= '0' then return tonumber(given) end
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Unique and growing, also where the time is given.
local function stamp()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local function int(number) return string.format('%.0f', number) end

-- A partition's epoch: the second it was first written to, so that nothing of an emptied one is taken for real.
local function epoch_of(key, now)
  local known = redis.call('GET', key)
  if known then return tonumber(known) end
  local fresh = math.floor(now / 1000)
  redis.call('SET', key, int(fresh))
  return fresh
end

local function open_log(key)
  local row = redis.call('HMGET', key, 's', 't', 'f', 'e', 'v', 'c', 'n', 'x', 'b', 'l')
  if not row[1] then return nil end
  local log = { seq = tonumber(row[1]), at = tonumber(row[2]), first = tonumber(row[3]),
    epoch = tonumber(row[4]), version = tonumber(row[5]), cursors = tonumber(row[6]),
    numbers = {}, deleted = row[8] ~= '0', lost = row[8] == '2', since = tonumber(row[9] or 1),
    born = tonumber(row[10] or 1) }
  for number in string.gmatch(row[7], '%d+') do log.numbers[#log.numbers + 1] = number end
  return log
end

local function live_log(key)
  local log = open_log(key)
  if log and not log.deleted then return log end
  return nil
end

local function fresh_log(epoch)
  return { seq = 0, at = 0, first = 0, epoch = epoch, version = 0, cursors = 0, numbers = {}, deleted = false,
    lost = false, since = 1, born = 1 }
end

local function save_log(key, log)
  redis.call('HSET', key, 's', int(log.seq), 't', int(log.at), 'f', int(log.first), 'e', int(log.epoch),
    'v', int(log.version), 'c', int(log.cursors), 'n', table.concat(log.numbers, ','),
    'x', log.lost and '2' or log.deleted and '1' or '0', 'b', int(log.since), 'l', int(log.born))
end

-- Whether `count` more entries have numbers, with those of `given` that are missing taken.
local function numbered(log, count, given)
  local block = math.floor((log.seq + count) / BLOCK)
  for number in string.gmatch(given, '%d+') do
    if #log.numbers <= block then log.numbers[#log.numbers + 1] = number end
  end
  return #log.numbers > block
end

local function head_of(log)
  return { int(log.seq), int(log.epoch), int(log.at), int(log.cursors), int(log.version), int(log.since) }
end

local function rules_of(args)
  return { now = clock(args[1]), keep = tonumber(args[2]), oldest = tonumber(args[3]), numbers = args[4] }
end

local function place_in(entry)
  local seq, at = string.match(entry[1], '^(%d+)%-(%d+)$')
  return tonumber(seq), tonumber(at)
end

-- Removes what is too old, never the newest entry; and the reactions to what is gone.
local function trim(keys, log, rules)
  local oldest = redis.call('XRANGE', keys[STREAM], '-', '+', 'COUNT', 1)
  local horizon = rules.now - rules.oldest
  local first, at = place_in(oldest[1])
  if at < horizon and first < log.seq then
    for _, entry in ipairs(redis.call('XRANGE', keys[STREAM], '-', '+', 'COUNT', 17)) do
      first, at = place_in(entry)
      if at >= horizon or first >= log.seq then break end
    end
    redis.call('XTRIM', keys[STREAM], 'MINID', int(first))
  end
  if first <= log.first then return end
  local gone = redis.call('ZRANGEBYSCORE', keys[REACTIONS], '-inf', '(' .. int(first))
  for _, field in ipairs(gone) do redis.call('HDEL', keys[REACTED], field) end
  if #gone > 0 then redis.call('ZREMRANGEBYSCORE', keys[REACTIONS], '-inf', '(' .. int(first)) end
  log.first = first
end

-- What is too old to be kept goes by itself when nobody appends any more: entries and details of reactions, never
-- where the log stands.
local function expire(keys, log, rules)
  -- Later than the retention even where the time of the log is ahead of the server's.
  local life = int(rules.oldest + math.max(0, log.at - rules.now) + LEEWAY)
  for _, key in ipairs { STREAM, REACTED, REACTIONS } do redis.call('PEXPIRE', keys[key], life) end
end

-- Appends, trims, saves and publishes. `mark`: m for messages, o for what is none.
local function add_entry(keys, log, rules, mark, record)
  local seq, at = log.seq + 1, math.max(rules.now, log.at)
  local number = log.numbers[math.floor(seq / BLOCK) + 1]
  local entry = '{"s":' .. int(seq) .. ',"e":' .. int(log.epoch) .. ',"t":' .. int(at) .. ',"p":' .. int(log.at)
    .. ',"n":' .. number .. ',"o":' .. int(seq % BLOCK) .. ',"r":' .. record .. '}'
  redis.call('XADD', keys[STREAM], 'MAXLEN', '=', int(rules.keep), int(seq) .. '-' .. int(at), mark, entry)
  log.seq, log.at = seq, at
  if log.first == 0 then log.first = seq end
  trim(keys, log, rules)
  expire(keys, log, rules)
  save_log(keys[STATE], log)
  redis.call('SPUBLISH', keys[CHANNEL], 'e' .. entry)
  return { 'new', int(seq), int(at), number }
end

local function entry_at(keys, seq)
  return redis.call('XRANGE', keys[STREAM], int(seq), int(seq))[1]
end

local function place_of(log, seq, at)
  return int(seq), int(at), log.numbers[math.floor(seq / BLOCK) + 1]
end

-- Client ids live in two buckets of one dedupe window each: nothing younger than the window is missed.
local function known_client(stem, field, log, now, window)
  local bucket = math.floor(now / window)
  for age = 0, 1 do
    local found = redis.call('HGET', stem .. int(bucket - age), field)
    if found then
      local seq, epoch, at = string.match(found, '^(%d+) (%d+) (%d+)$')
      local living = tonumber(epoch) == log.epoch or tonumber(seq) >= log.born
      if living and at + window > now then return tonumber(seq), tonumber(at) end
    end
  end
  return nil
end

local function remember_client(stem, field, log, now, window)
  local key = stem .. int(math.floor(now / window))
  redis.call('HSET', key, field, int(log.seq) .. ' ' .. int(log.epoch) .. ' ' .. int(log.at))
  redis.call('PEXPIRE', key, 2 * window, 'NX')
end
