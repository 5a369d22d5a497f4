-- Store.discard: drop definitions that could not be read, if they are still that version, and notify. Grants stay.
--
-- ARGV[2] version that could not be read
-- ARGV[3] channel of the notices
-- Returns {1, or 0 if another version or none is stored; the result of the notice}

if not state.stored or state.version ~= ARGV[2] then return {0, notice} end
set('highest', math.max(state.highest, state.as_of))
drop()
hurry()
save()
notify(ARGV[3], 'note')
return {1, notice}
