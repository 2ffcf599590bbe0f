-- The lead: to whoever has it, or to the first that asks. KEYS: lease. ARGV: who, for how many milliseconds.
local held = redis.call('GET', KEYS[1])
-- Also where Redis is full: publishing gives memory back.
if held == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
if held then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
