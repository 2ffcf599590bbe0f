-- Conversations at a glance. How much of a log is looked at is written in overviews.rs of the backplane, and given.

-- The author of a message, in the entry's head: in text that a client wrote every quote is escaped.
local function is_of(entry, user)
  return string.find(string.sub(entry, 1, 512), '{"m":{"a":{"i":"' .. user .. '"', 1, true) ~= nil
end

-- Calls `look` with the entries up to `seq`, newest first, until it says that it has seen enough.
local function backwards(stream, seq, look)
  local step = 1
  while seq > 0 do
    local found = redis.call('XREVRANGE', stream, int(seq), '-', 'COUNT', step)
    for _, entry in ipairs(found) do
      local at
      seq, at = place_in(entry)
      if look(seq, at, entry[2][1] == 'm', entry[2][2], entry[1]) then return end
    end
    if #found < step then return end
    seq, step = seq - 1, step == 1 and 16 or 64
  end
end

-- The newest message up to a place.
local function message_up_to(stream, seq, most)
  local scanned, place = 0, ''
  backwards(stream, seq, function(found, at, is_message)
    if scanned == most then return true end
    scanned = scanned + 1
    if is_message then place = int(found) .. '-' .. int(at) end
    return is_message
  end)
  return place
end

-- Looks at a log from its end on; what is up to `floor` is read.
local function end_of(stream, head, user, floor, most)
  local told = { unread = 0, more = 0, last = false }
  local scanned, bytes = 0, 0
  backwards(stream, head, function(seq, _, is_message, entry, id)
    if seq <= floor and told.last then return true end
    if scanned == most.entries or bytes >= most.bytes then
      if seq > floor then told.more = 1 end
      return true
    end
    scanned, bytes = scanned + 1, bytes + #entry
    if not is_message then return false end
    if seq > floor and not is_of(entry, user) then
      if told.unread == most.counted then
        told.more = 1
        return true
      end
      told.unread = told.unread + 1
    end
    told.last = told.last or { id, entry }
    return false
  end)
  return told
end

local function overview(state, members, cursors, stream, user, most)
  local log = live_log(state)
  local joined = log and redis.call('HGET', members, user)
  if not joined then return {} end
  local marks = redis.call('HGET', cursors, user) or '0 0 0'
  local read, read_at = string.match(marks, '^%d+ (%d+) (%d+)$')
  local message = read_at ~= '0' and message_up_to(stream, tonumber(read), most.behind) or ''
  local told = end_of(stream, log.seq, user, math.max(tonumber(read), tonumber(joined)), most)
  local few = redis.call('HLEN', members) <= most.few and redis.call('HKEYS', members)
  local meta = redis.call('HMGET', state, 'k', 'ti')
  return { head_of(log), table.concat(log.numbers, ','), meta[1] or '', meta[2] or false, few, read, read_at, message,
    told.unread, told.more, told.last }
end

-- What a user sees of conversations of one partition: state, members, cursors and entries of each.
-- Arguments: user, then how much is looked at: counted, entries, bytes, behind, few.
redis.register_function { function_name = 'gw1_overviews', flags = { 'no-writes' }, callback = function(keys, args)
  local most = { counted = tonumber(args[2]), entries = tonumber(args[3]), bytes = tonumber(args[4]),
    behind = tonumber(args[5]), few = tonumber(args[6]) }
  local all = {}
  for index = 1, #keys, 4 do
    all[#all + 1] = overview(keys[index], keys[index + 1], keys[index + 2], keys[index + 3], args[1], most)
  end
  return all
end }
