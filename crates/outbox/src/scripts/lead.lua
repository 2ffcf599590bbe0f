-- The lead: to whoever has it, or to the first that asks. KEYS: lease. ARGV: who, for how many milliseconds, 'take' or 'keep':
-- whether one that nobody has is taken.
local held = redis.call('GET', KEYS[1])
if held == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
if held or ARGV[3] ~= 'take' then return 0 end
-- Also where Redis is full: publishing gives memory back. Behind something that needs none a script may write whatever it likes.
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
