-- Names of entries (an author's client id, a publisher's key) live in two buckets of one dedupe window each: nothing
-- younger than the window is missed. A name stands for sequence, epoch and time.
local NAMED = '<I5I4I6'
-- The stem of an author's uses, for who appends a message.
local USES = 6
-- Redis keeps a small hash as a list that it searches from the beginning, up to 512 fields by its defaults, and makes a table
-- of one that holds a long value. A log with so many entries since the last time has a value put into its names.
local MANY, LONG = 128, '-----------------------------------------------------------------'

local function keep_as_table(key, log)
  if log.seq % MANY == MANY - 1 then redis.call('HSET', key, '', LONG) end
end

local function place_under(key, name, log, now, window)
  local found = redis.call('HGET', key, name)
  if not found then return nil end
  local seq, epoch, at = struct.unpack(NAMED, found)
  local living = epoch == log.epoch or seq >= log.born
  if living and at + window > now then return seq, at end
  return nil
end

local function known_name(keys, name, log, now, window)
  local bucket = math.floor(now / window)
  local seq, at = place_under(keys[CLIENTS] .. int(bucket), name, log, now, window)
  if seq then return seq, at end
  return place_under(keys[CLIENTS] .. int(bucket - 1), name, log, now, window)
end

-- Writes a name down for the entry that comes next, or says what has it.
local function take_name(keys, name, log, now, window)
  local bucket = math.floor(now / window)
  local key, begun = keys[CLIENTS] .. int(bucket), log.bucket == bucket
  if not begun then
    log.older = log.bucket >= bucket - 1
    log.bucket = bucket
  end
  if log.older then
    local seq, at = place_under(keys[CLIENTS] .. int(bucket - 1), name, log, now, window)
    if seq then return seq, at end
  end
  local place = struct.pack(NAMED, log.seq + 1, log.epoch, math.max(now, log.at))
  if redis.call('HSETNX', key, name, place) == 0 then
    local seq, at = place_under(key, name, log, now, window)
    if seq then return seq, at end
    redis.call('HSET', key, name, place)
  end
  if not begun then redis.call('PEXPIRE', key, int(2 * window), 'NX') end
  keep_as_table(key, log)
  return nil
end

-- Adds an entry once where it has a name.
local function add_once(keys, log, rules, new)
  local seq, at
  local enough = numbered(log, 1, rules.numbers)
  if new.name ~= '' then
    local take = enough and take_name or known_name
    seq, at = take(keys, new.name, log, rules.now, new.window)
    if seq then return { 'known', place_of(log, seq, at) } end
  end
  if not enough then return { 'number', #log.numbers } end
  local done, stored = pcall(add_entry, keys, log, rules, new.mark, new.record)
  if done then return stored end
  -- A name stands for nothing that is not there.
  if new.name ~= '' then redis.call('HDEL', keys[CLIENTS] .. int(log.bucket), new.name) end
  return type(stored) == 'table' and stored or { err = stored }
end

-- Where an author used a client id, or one that is shortened to the same. Key: the stem of the author's uses.
local function note_use(stem, id, window, conversation, now)
  local key = stem .. int(math.floor(now / window))
  if redis.call('HSETNX', key, id, conversation) == 1 then
    -- Asked for each time: a write costs three times as much.
    if redis.call('HLEN', key) == 1 then redis.call('PEXPIRE', key, int(2 * window)) end
    return key
  end
  local places = redis.call('HGET', key, id)
  if not string.find(' ' .. places .. ' ', ' ' .. conversation .. ' ', 1, true) and #places < 4096 then
    redis.call('HSET', key, id, places .. ' ' .. conversation)
  end
  return key
end

-- A member's message: membership, dedupe, append and publication in one step.
-- Arguments: time, entries kept, age kept, numbers, sender, name or '', dedupe window, record. Where one call may touch
-- two partitions, two more and a sixth key: what `gw1_used` is told otherwise.
redis.register_function('gw1_append', function(keys, args)
  local rules = rules_of(args)
  local log = live_log(keys[STATE])
  if not log then return { 'gone' } end
  -- Before dedupe: who is no member learns nothing of what is in the log.
  if redis.call('HEXISTS', keys[MEMBERS], args[5]) == 0 then return { 'stranger' } end
  if keys[USES] then
    local key = note_use(keys[USES], args[9], tonumber(args[7]), args[10], rules.now)
    keep_as_table(key, log)
  end
  return add_once(keys, log, rules,
    { name = args[6], window = tonumber(args[7]), mark = 'm', record = args[8] })
end)

-- A feed's or channel's entry, once where it has a name; the log is made when it is not there.
-- Arguments: time, entries kept, age kept, numbers, name or '', dedupe window, record.
redis.register_function('gw1_post', function(keys, args)
  local rules = rules_of(args)
  local log = live_log(keys[STATE]) or fresh_log(epoch_of(keys[EPOCH], rules.now))
  return add_once(keys, log, rules,
    { name = args[5], window = tonumber(args[6]), mark = 'o', record = args[7] })
end)

-- What a name stands for. Arguments: time, name, dedupe window.
redis.register_function('gw1_known', function(keys, args)
  local log = live_log(keys[STATE])
  if not log then return {} end
  local seq, at = known_name(keys, args[2], log, clock(args[1]), tonumber(args[3]))
  if not seq then return {} end
  return { seq, at }
end)
