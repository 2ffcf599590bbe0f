-- Moves a member's cursor: forward only, read implies delivered. Arguments: time, user, d|r, sequence.
local BEGUN, MOVED, MARKS = '{"u":"%s","t":%d,"v":%d', ',"%s":[%d,%d]', '%d %d %d'

redis.register_function('gw1_cursor', function(keys, args)
  local now, log = clock(args[1]), live_log(keys[STATE])
  local joined = log and redis.call('HGET', keys[MEMBERS], args[2])
  if not joined then return {} end
  -- What was said before a member joined is nobody's to hear delivered.
  local kept = redis.call('HGET', keys[CURSORS], args[2]) or (joined .. ' ' .. joined .. ' 0')
  local delivered, read, read_at = string.match(kept, '^(%d+) (%d+) (%d+)$')
  delivered, read = tonumber(delivered), tonumber(read)
  local seq, moved = math.min(tonumber(args[4]), log.seq), ''
  if seq > delivered then
    moved = string.format(MOVED, 'd', delivered, seq)
    delivered = seq
  end
  if args[3] == 'r' and seq > read then
    moved = moved .. string.format(MOVED, 'r', read, seq)
    read, read_at = seq, now
  end
  if moved == '' then return { string.format(BEGUN, args[2], now, log.cursors) .. '}' } end
  redis.call('HSET', keys[CURSORS], args[2], string.format(MARKS, delivered, read, read_at))
  log.cursors = log.cursors + 1
  save_log(keys[STATE], log)
  local told = string.format(BEGUN, args[2], now, log.cursors) .. moved .. '}'
  redis.call('SPUBLISH', keys[CHANNEL], 'c' .. told)
  if TRAILED.c then trail(keys[STATE], text_of(keys[STATE]), 'c' .. told) end
  return { told }
end)

-- All cursors that ever moved, with their version, and the number, of conversations of one partition: state, members and
-- cursors of each. Argument: more cursors than these are left out, and that is said.
redis.register_function { function_name = 'gw1_cursor_sets', flags = { 'no-writes' }, callback = function(keys, args)
  local all, most = {}, tonumber(args[1] or '1e15')
  for index = 1, #keys, 3 do
    local log = live_log(keys[index])
    local many = log and redis.call('HLEN', keys[index + 2]) > most
    all[#all + 1] = log and { log.cursors, log.numbers[1], many and {} or redis.call('HGETALL', keys[index + 2]),
      many and 1 or 0 } or {}
  end
  return all
end }

-- All cursors, with their version; for nodes of an earlier release.
redis.register_function { function_name = 'gw1_cursors', flags = { 'no-writes' }, callback = function(keys)
  local log = live_log(keys[STATE])
  if not log then return {} end
  return { log.cursors, redis.call('HGETALL', keys[CURSORS]) }
end }

-- A user's place in conversations of one partition: state, members and cursors of each. Argument: user.
redis.register_function { function_name = 'gw1_places', flags = { 'no-writes' }, callback = function(keys, args)
  local places = {}
  for index = 1, #keys, 3 do
    local log = live_log(keys[index])
    local joined = log and redis.call('HGET', keys[index + 1], args[1])
    if joined then
      local marks = redis.call('HGET', keys[index + 2], args[1]) or '0 0 0'
      places[#places + 1] = { head_of(log), log.numbers[1], joined, marks }
    else
      places[#places + 1] = {}
    end
  end
  return places
end }
