-- KEYS[1] state, then the keys to be replaced; ARGV: epoch, recorded time, time to be recorded or '', 'complete' to be recorded or '',
-- then for each key: the command that fills it, when it expires (ms since 1970), the number of elements, the elements.
-- Answers 'ok'; 'fenced' and the newer epoch; or 'lost' and what is recorded instead.
local state = redis.call('HMGET', KEYS[1], 'epoch', 'applied')
if not state[1] or not state[2] then
  return {'lost', ''}
end
if tonumber(state[1]) > tonumber(ARGV[1]) then
  return {'fenced', state[1]}
end
if state[1] ~= ARGV[1] or state[2] ~= ARGV[2] then
  return {'lost', state[2]}
end
local at, asked = 5, false
for k = 2, #KEYS do
  local fill, expires, count = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  at = at + 3
  if count > 0 and not asked then
    -- A script that has deleted something may exceed the server's memory: what follows must be refused before that.
    redis.call('HSET', KEYS[1], 'epoch', ARGV[1])
    asked = true
  end
  redis.call('DEL', KEYS[k])
  if count > 0 then
    -- The stack of Lua is small.
    for from = at, at + count - 1, 1000 do
      redis.call(fill, KEYS[k], unpack(ARGV, from, math.min(from + 999, at + count - 1)))
    end
    redis.call('PEXPIREAT', KEYS[k], expires)
  end
  at = at + count
end
if ARGV[3] ~= '' then
  redis.call('HSET', KEYS[1], 'applied', ARGV[3])
end
if ARGV[4] ~= '' then
  redis.call('HSET', KEYS[1], 'complete', ARGV[4])
end
return {'ok', ''}
