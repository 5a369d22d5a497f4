-- Store.renew: keep the lease; grants nothing.
--
-- ARGV[2] lease (ms)
--
-- Returns 1, or 0 when the asker does not hold the lease

if not leads() then return 0 end
lease(tonumber(ARGV[2]))
save()
return 1
