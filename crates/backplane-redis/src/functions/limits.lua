-- Exact sliding windows: a string of packed times and stamps, oldest first, at most the limit many.
local TAKEN, EACH = '<I6I7', 13

-- Calls `look` with the place, time and stamp of each entry until it says that it has found what it looks for.
local function among(kept, look)
  for from = 1, #kept, EACH do
    local at, stamp = struct.unpack(TAKEN, kept, from)
    if look(from, at, stamp) then return from end
  end
  return nil
end

local function without(kept, from) return string.sub(kept, 1, from - 1) .. string.sub(kept, from + EACH) end

-- Arguments: time, limit, window. Returns allowed, remaining, reset, stamp.
redis.register_function('gw1_take', function(keys, args)
  local limit, window, unique = tonumber(args[2]), tonumber(args[3]), stamp()
  local now = args[1] == '0' and math.floor(unique / 1000) or tonumber(args[1])
  local kept = redis.call('GET', keys[1]) or ''
  local living = among(kept, function(_, at) return at + window > now end) or #kept + 1
  if living > 1 then kept = string.sub(kept, living) end
  local taken = #kept / EACH
  if taken >= limit then
    -- What a shorter window let go is gone for a longer one, too.
    if living > 1 then redis.call('SET', keys[1], kept, 'KEEPTTL') end
    -- A limit that was lowered needs more than one entry to leave.
    local blocking = limit > 0 and struct.unpack(TAKEN, kept, (taken - limit) * EACH + 1) or now
    return { 0, 0, blocking + window, 0 }
  end
  local ends = now
  if taken > 0 then
    local at, last = struct.unpack(TAKEN, kept, #kept - EACH + 1)
    unique, ends = math.max(unique, last + 1), math.max(now, at)
  end
  redis.call('SET', keys[1], kept .. struct.pack(TAKEN, now, unique), 'PX', int(ends + window - now))
  return { 1, limit - taken - 1, now + window, unique }
end)

-- Arguments: stamp.
redis.register_function('gw1_give_back', function(keys, args)
  local kept, given = redis.call('GET', keys[1]) or '', tonumber(args[1])
  local from = among(kept, function(_, _, stamp) return stamp == given end)
  if not from then return 0 end
  redis.call('SET', keys[1], without(kept, from), 'KEEPTTL')
  return 1
end)

-- What was counted happened later than that: it moves on to its place. Arguments: time, window, stamp, when.
redis.register_function('gw1_happened', function(keys, args)
  local now, window, given, at = clock(args[1]), tonumber(args[2]), tonumber(args[3]), tonumber(args[4])
  local kept = redis.call('GET', keys[1]) or ''
  local from = among(kept, function(_, _, stamp) return stamp == given end)
  if from then kept = without(kept, from) end
  -- It may be gone already, having taken longer than a window.
  local living = at + window > now
  if living then
    local behind = among(kept, function(_, other) return other > at end) or #kept + 1
    kept = string.sub(kept, 1, behind - 1) .. struct.pack(TAKEN, at, given) .. string.sub(kept, behind)
  end
  if not from and not living then return 0 end
  redis.call('SET', keys[1], kept, 'PX', int(window + math.max(0, at - now)))
  return living and 1 or 0
end)
