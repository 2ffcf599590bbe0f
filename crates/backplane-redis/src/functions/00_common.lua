-- What several verbs share: time, logs, appending. Every first argument is the time: 0 asks the server.
-- The keys of a log come in one order everywhere (keys.rs, `Log`); who appends a message hands over the first five.
local STATE, STREAM, MEMBERS, CLIENTS, CHANNEL, CURSORS, REACTED, REACTIONS, ROOM, EPOCH = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
-- Entries per number.
local BLOCK = 4194304
-- Less than the second after which who heard an entry looks at its log again (backplane/src/fences.rs).
local SOON = 900
-- How much longer than the retention a log lies there that nobody appends to; and a part of the retention, within
-- which its lifetime needs no renewing.
local LEEWAY, SLACK = 1000, 64
-- How often in a life of a user's pointers that is renewed.
local RENEWED = 8

-- Numbers of a time's size fit because Redis is built for 64 bits; formatting doubles would cost ten times as much.
local function int(number) return string.format('%d', number) end

local PLACE, KEPT = '%d-%d', '%d %d '
local TOLD = 'e{"s":%d,"e":%d,"t":%d,"p":%d,"n":%s,"o":%d,"r":'

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

-- A partition's epoch: the second it was first written to, so that nothing of an emptied one is taken for real.
local function epoch_of(key, now)
  local known = redis.call('GET', key)
  if known then return tonumber(known) end
  local fresh = math.floor(now / 1000)
  redis.call('SET', key, int(fresh))
  return fresh
end

-- Where a log stands, packed, small enough for a hash that is no table: sequence, time, first entry, no later than the
-- first entry, until when the stream has a lifetime, bucket of the last name, flags, epoch, version, version of the
-- cursors, the sequence the epoch begins with, the one this life began with, number. Flags: 1 deleted or 2 lost, 4 the
-- bucket before may have names, 8 there may be reactions, 16 there are further numbers, in a field of their own.
local STANDS, MOST = '<I5I6I5I6I6I6I1I4I5I5I5I5I4', 281474976710655

local function open_log(key)
  local row = redis.call('HGET', key, 'h')
  if not row then return nil end
  local seq, at, first, eldest, lives, bucket, flags, epoch, version, cursors, since, born, number =
    struct.unpack(STANDS, row)
  local numbers = {}
  if flags >= 16 then
    for one in string.gmatch(redis.call('HGET', key, 'n'), '%d+') do numbers[#numbers + 1] = one end
  elseif number ~= 0 then
    numbers[1] = int(number)
  end
  return { seq = seq, at = at, first = first, eldest = eldest, lives = lives, bucket = bucket,
    older = flags % 8 >= 4, marked = flags % 16 >= 8, epoch = epoch, version = version, deleted = flags % 4 ~= 0,
    lost = flags % 4 == 2, since = since, born = born, numbers = numbers, cursors = cursors }
end

local function live_log(key)
  local log = open_log(key)
  if log and not log.deleted then return log end
  return nil
end

local function fresh_log(epoch)
  return { seq = 0, at = 0, first = 0, eldest = 0, lives = 0, bucket = 0, older = false, marked = true, epoch = epoch,
    version = 0, deleted = false, lost = false, since = 1, born = 1, numbers = {}, cursors = 0 }
end

-- What happens to logs is counted, by partition and kind (keys.rs, `changes`): whoever sees the same count as before need not
-- look at each log. `soon`: not counted, because it came so soon after an entry that whoever heard that looks again.
local function save_log(key, log, soon)
  local numbers = log.numbers
  local flags = (log.lost and 2 or log.deleted and 1 or 0) + (log.older and 4 or 0) + (log.marked and 8 or 0)
  if #numbers > 1 then
    flags = flags + 16
    redis.call('HSET', key, 'n', table.concat(numbers, ','))
  end
  redis.call('HSET', key, 'h', struct.pack(STANDS, log.seq, log.at, log.first, log.eldest, log.lives, log.bucket, flags,
    log.epoch, log.version, log.cursors, log.since, log.born, numbers[1] or 0))
  if not soon then redis.call('INCR', string.match(key, '^[^}]*}.')) end
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
  return { log.seq, log.epoch, log.at, log.cursors, log.version, log.since }
end

-- Of which words a trail is kept (backplane/src/trail), by their letters; whoever loads this puts them in.
local TRAILED = {}
local MOST_KEPT = 1000000

-- What a key is of: it says so behind its tag.
local function text_of(key) return string.match(key, '^[^}]*}(.*)$') end

-- A step of the trail of a key's partition; the key's kind has one letter.
local function trail(key, of, word)
  local prefix, tag = string.match(key, '^(.-).(:{[^}]*})')
  local stream = prefix .. 'tr' .. tag
  if redis.call('XLEN', stream) < MOST_KEPT then
    redis.call('XADD', stream, '*', 'k', of, 'w', word)
    return
  end
  redis.call('XADD', stream, '*', 'k', of, 'w', word)
  local gone = redis.call('XTRIM', stream, 'MAXLEN', '~', MOST_KEPT)
  if gone > 0 then redis.call('HINCRBY', prefix .. 'th' .. tag, '#dropped', gone) end
end

local function rules_of(args)
  return { now = clock(args[1]), keep = tonumber(args[2]), oldest = tonumber(args[3]), numbers = args[4] }
end

local function place_in(entry)
  local seq, at = string.match(entry[1], '^(%d+)%-(%d+)$')
  return tonumber(seq), tonumber(at)
end

-- Removes what is too old, never the newest entry, and says which is the first then.
local function first_of(keys, log, horizon)
  local oldest = redis.call('XRANGE', keys[STREAM], '-', '+', 'COUNT', 1)
  local first, at = place_in(oldest[1])
  if at < horizon and first < log.seq then
    for _, entry in ipairs(redis.call('XRANGE', keys[STREAM], '-', '+', 'COUNT', 17)) do
      first, at = place_in(entry)
      if at >= horizon or first >= log.seq then break end
    end
    redis.call('XTRIM', keys[STREAM], 'MINID', int(first))
  end
  return first, at
end

-- The keys of the reactions: told from the state's, in which the first letter that the stream's has not is the kind.
local function with_reactions(keys)
  if keys[REACTIONS] then return keys end
  local state, stream, at = keys[STATE], keys[STREAM], 1
  while string.byte(state, at) == string.byte(stream, at) do at = at + 1 end
  local function of(kind) return string.sub(state, 1, at - 1) .. kind .. string.sub(state, at + 1) end
  keys[REACTED], keys[REACTIONS] = of('x'), of('y')
  return keys
end

local function any_reactions(keys) return redis.call('EXISTS', with_reactions(keys)[REACTIONS]) == 1 end

-- After an entry came: what is too old goes, and the reactions to what is gone.
local function trim(keys, log, rules)
  local horizon, first = rules.now - rules.oldest, log.first
  if first >= log.since and log.eldest >= horizon then
    -- Nothing is too old, and none is missing between: it can be counted.
    first = math.max(first, log.seq - rules.keep + 1)
  else
    first, log.eldest = first_of(keys, log, horizon)
  end
  if first <= log.first then return end
  log.first = first
  if not log.marked then return end
  with_reactions(keys)
  local below = '(' .. int(first)
  local gone = redis.call('ZRANGEBYSCORE', keys[REACTIONS], '-inf', below)
  for _, field in ipairs(gone) do redis.call('HDEL', keys[REACTED], field) end
  if #gone > 0 then redis.call('ZREMRANGEBYSCORE', keys[REACTIONS], '-inf', below) end
  log.marked = any_reactions(keys)
end

-- What is too old to be kept goes by itself when nobody appends any more: entries and details of reactions, never
-- where the log stands.
local function expire(keys, log, rules)
  -- Later than the retention even where the time of the log is ahead of the server's.
  local ends, slack = math.max(rules.now, log.at) + rules.oldest + LEEWAY, math.floor(rules.oldest / SLACK)
  if log.lives >= math.min(ends, MOST) and log.lives <= ends + slack then return end
  log.lives = math.min(ends + slack, MOST)
  local life = int(log.lives - rules.now)
  redis.call('PEXPIRE', keys[STREAM], life)
  if not log.marked then return end
  redis.call('PEXPIRE', with_reactions(keys)[REACTED], life)
  redis.call('PEXPIRE', keys[REACTIONS], life)
end

-- Appends, trims, saves and publishes. `mark`: m for messages, o for what is none. What is kept is the epoch, the time
-- since the entry before, and the record; the rest is in the id.
local function add_entry(keys, log, rules, mark, record)
  local seq, at, before = log.seq + 1, math.max(rules.now, log.at), log.at
  local number = log.numbers[math.floor(seq / BLOCK) + 1]
  local id, kept = string.format(PLACE, seq, at), string.format(KEPT, log.epoch, at - before) .. record
  log.seq, log.at = seq, at
  local there
  if log.first >= log.since and seq - log.first < rules.keep then
    there = redis.call('XADD', keys[STREAM], 'NOMKSTREAM', id, mark, kept)
  else
    there = redis.call('XADD', keys[STREAM], 'NOMKSTREAM', 'MAXLEN', '=', int(rules.keep), id, mark, kept)
  end
  if not there then
    -- The first one, or the earlier ones went by their age.
    redis.call('XADD', keys[STREAM], id, mark, kept)
    log.first, log.eldest, log.lives, log.marked = seq, at, 0, log.marked and any_reactions(keys)
  end
  if log.first == 0 then log.first = seq end
  trim(keys, log, rules)
  expire(keys, log, rules)
  save_log(keys[STATE], log, rules.now >= before and rules.now - before < SOON)
  local told = string.format(TOLD, seq, log.epoch, at, before, number, seq % BLOCK) .. record .. '}'
  redis.call('SPUBLISH', keys[CHANNEL], told)
  if TRAILED.e then
    local of = text_of(keys[STATE])
    if string.sub(of, 1, 2) == 'c:' then trail(keys[STATE], of, told) end
  end
  return { 'new', seq, at, number }
end

local function entry_at(keys, seq)
  return redis.call('XRANGE', keys[STREAM], int(seq), int(seq))[1]
end

local function place_of(log, seq, at)
  return seq, at, log.numbers[math.floor(seq / BLOCK) + 1]
end
