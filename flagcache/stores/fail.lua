-- Store.fail: close the latest grant as failed.
--
-- ARGV[2]    as_of of the grant whose fetch failed
-- ARGV[3]    'mine': this worker gives up the lease; 'everybody': a note keeps all from fetching
-- ARGV[4..5] HTTP status and time until the next try (ms), for the note
--
-- Returns 1, or 0 when it is not the latest grant, and then nothing happens

if state.holder ~= ME or state.grant ~= tonumber(ARGV[2]) then return 0 end
set('outcome', 'failed')
if ARGV[3] == 'everybody' then
  local length = tonumber(ARGV[5])
  set('note_status', tonumber(ARGV[4])) set('note_until', clock + length) set('note_length', length)
elseif state.owner == ME then
  give_up()
end
save()
return 1
