-- Store.clear: forget definitions, grants and notes permanently, and raise the epoch; the lease stays if its holder
-- fetches at once.
--
-- ARGV[2] channel of the notices
-- ARGV[3] stamp of the new epoch, which is the next one; '' for none
-- Returns {the new epoch, the result of the notice}

-- An epoch that was too high is replaced by the clock's time, which no counted epoch reaches.
local epoch, highest, since = invalid_epoch and clock or state.epoch + 1, state.highest, state.led_since
local deputy, seen = state.deputy, state.deputy_seen
redis.call('DEL', HASH) -- first: after it a server that is out of memory allows the script's other writes
hurry()
redis.call('HSET', HASH, 'epoch', digits(epoch), 'epoch_stamp', ARGV[3], 'highest', digits(highest),
  'lease_length', digits(state.lease_length), 'led_since', digits(since), 'deputy', deputy, 'deputy_seen', digits(seen))
state.epoch, state.version = epoch, ''
notify(ARGV[2], 'clear')
return {epoch, notice}
