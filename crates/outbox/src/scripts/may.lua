-- Whether what was published could be taken away, and what was refused put aside. KEYS: stream, where it is put aside.
for _, command in ipairs({ { 'XRANGE', KEYS[1], '-', '+' }, { 'XDEL', KEYS[1], '0-1' }, { 'XADD', KEYS[2], '*', 'a', 'b' } }) do
    if not redis.acl_check_cmd(unpack(command)) then
        return redis.error_reply('NOPERM this user may not ' .. command[1] .. ' ' .. command[2])
    end
end
return 1
