-- Small values with a lifetime: "ends at, value"; the key's own lifetime only collects what is past it.
local function put(key, now, life, value)
  if life == 0 then return redis.call('SET', key, '0 ' .. value) end
  return redis.call('SET', key, int(now + life) .. ' ' .. value, 'PX', math.max(1, life))
end

local function standing(key, now)
  local kept = redis.call('GET', key)
  if not kept then return false end
  local space = string.find(kept, ' ', 1, true)
  local ends = tonumber(string.sub(kept, 1, space - 1))
  if ends ~= 0 and ends <= now then return false end
  return string.sub(kept, space + 1)
end

-- Puts a value where what is there is what the caller takes it for; whatever does not depend on that is a plain command
-- (shared.rs).
-- Arguments: time, lifetime or 0 for ever, value, anything|nothing|this, what `this` is.
redis.register_function('gw1_keep', function(keys, args)
  local now, over = clock(args[1]), args[4]
  if over ~= 'anything' and standing(keys[1], now) ~= (over == 'this' and args[5]) then return 0 end
  put(keys[1], now, tonumber(args[2]), args[3])
  return 1
end)
