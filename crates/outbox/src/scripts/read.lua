-- What waits. KEYS: stream. ARGV: behind which entry ('-': from the beginning), how many, the largest body, bytes altogether.
local from = ARGV[1]
if from ~= '-' then from = '(' .. from end
local most, largest, left = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local all = {}
while #all < most and left > 0 do
    local page = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', math.min(10, most - #all))
    if #page == 0 then break end
    for _, entry in ipairs(page) do
        local named = {}
        for at = 1, #entry[2], 2 do named[entry[2][at]] = entry[2][at + 1] end
        local body = named.body or ''
        -- Longer words than these are none that anybody knows.
        local function short(word) return string.sub(word or '', 1, 200) end
        left = left - #body
        all[#all + 1] = { entry[1], short(named.key), short(named.call), short(named.target), #body <= largest and body }
        from = '(' .. entry[1]
        if left <= 0 then break end
    end
end
return all
