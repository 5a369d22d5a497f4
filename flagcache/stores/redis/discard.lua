-- Store.discard: drop what could not be read, if it is still that version. Grants and lease stay.
--
-- ARGV[2] version that could not be read
--
-- Returns 1, or 0 when another version, or none, is stored

if not state.stored or state.version ~= ARGV[2] then return 0 end
set('highest', math.max(state.highest, state.as_of))
drop()
save()
return 1
