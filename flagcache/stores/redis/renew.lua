-- Store.renew: keep the lease; grants nothing.
--
-- ARGV[2] lease (ms)
-- ARGV[3] time to live (ms)
-- Returns {1, or 0 if the asker does not hold the lease; 0; the result of the time to live}

if not leads() then return {0, notice} end
lease(tonumber(ARGV[2]))
save()
live(tonumber(ARGV[3]))
return {1, notice, expiry}
