-- Takes away and puts aside. KEYS: stream, where it is put aside. ARGV: how many are kept there, how many are gone, their ids,
-- and of each that is put aside its id, the code and why.
local gone = tonumber(ARGV[2])
-- There is none. But behind something that needs no memory a script may put aside also where Redis is full.
redis.call('XDEL', KEYS[1], '0-1')
for at = 3, 2 + gone do redis.call('XDEL', KEYS[1], ARGV[at]) end
for at = 3 + gone, #ARGV, 3 do
    local id = ARGV[at]
    local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
    -- Who came before has put it there.
    if entry then
        local fields = {}
        for index = 1, #entry[2], 2 do
            if string.sub(entry[2][index], 1, 8) ~= 'refusal:' and #fields < 200 then
                fields[#fields + 1] = entry[2][index]
                fields[#fields + 1] = entry[2][index + 1]
            end
        end
        for name, value in pairs({ ['refusal:of'] = id, ['refusal:code'] = ARGV[at + 1], ['refusal:why'] = ARGV[at + 2] }) do
            fields[#fields + 1] = name
            fields[#fields + 1] = value
        end
        redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[1], '*', unpack(fields))
        redis.call('XDEL', KEYS[1], id)
    end
end
return 1
