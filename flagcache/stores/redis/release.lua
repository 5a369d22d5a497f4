-- Store.release: give up the lease, and notify.
--
-- ARGV[2] channel of the notices
-- ARGV[3] idle (no fetch of the asker is under way): 1 or 0
-- Returns {1, or 0 if the asker does not hold the lease; the result of the notice}

if ARGV[3] == '1' then end_idle_grant(state.grant) end
if state.deputy == ME then set('deputy', '') set('deputy_seen', 0) end
local released = leads()
if released then give_up() end
save()
if not released then return {0, notice} end
notify(ARGV[2], 'free')
return {1, notice}
