-- Puts back what was put aside, with the key that it had. KEYS: stream, where it was put aside. ARGV: which ('-': all), what a key
-- of one without begins with, how many.
local from, to = ARGV[1], ARGV[1]
if from == '-' then to = '+' end
local page = redis.call('XRANGE', KEYS[2], from, to, 'COUNT', ARGV[3])
-- There is none. But behind something that needs no memory a script may put back also where Redis is full: no more lies there then.
redis.call('XDEL', KEYS[2], '0-1')
for _, entry in ipairs(page) do
    local fields, of, key = {}, entry[1], nil
    for at = 1, #entry[2], 2 do
        local name, value = entry[2][at], entry[2][at + 1]
        if name == 'refusal:of' then of = value end
        if name == 'key' then key = value end
        if string.sub(name, 1, 8) ~= 'refusal:' then
            fields[#fields + 1] = name
            fields[#fields + 1] = value
        end
    end
    if not key then
        fields[#fields + 1] = 'key'
        fields[#fields + 1] = ARGV[2] .. of
    end
    redis.call('XADD', KEYS[1], '*', unpack(fields))
    redis.call('XDEL', KEYS[2], entry[1])
end
return #page
