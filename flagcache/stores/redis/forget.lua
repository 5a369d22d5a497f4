-- Forgets.forget: delete all keys of the namespace.
--
-- Returns how many there were

return redis.call('DEL', HASH, LEASE)
