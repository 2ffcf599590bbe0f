-- What was put aside. KEYS: where. ARGV: how many.
local all = {}
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', ARGV[1])) do
    local named = {}
    for at = 1, #entry[2], 2 do named[entry[2][at]] = string.sub(entry[2][at + 1], 1, 400) end
    local function word(name) return named[name] or '' end
    all[#all + 1] = { entry[1], word('call'), word('target'), word('refusal:code'), word('refusal:why') }
end
return all
