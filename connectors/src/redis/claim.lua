-- KEYS[1] state; ARGV: definition, epoch.
-- Answers 'fenced' and the newer epoch; 'at' and the recorded time; or 'fresh', having begun an incomplete state.
local state = redis.call('HMGET', KEYS[1], 'definition', 'epoch', 'applied', 'complete')
if state[2] and tonumber(state[2]) > tonumber(ARGV[2]) then
  return {'fenced', state[2]}
end
if state[1] == ARGV[1] and state[3] and state[4] == '1' then
  redis.call('HSET', KEYS[1], 'epoch', ARGV[2])
  return {'at', state[3]}
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'definition', ARGV[1], 'epoch', ARGV[2], 'applied', '0', 'complete', '0')
return {'fresh', '0'}
