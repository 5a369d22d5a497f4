-- Store.fail: close the latest grant as failed.
--
-- ARGV[2]    as_of of the grant whose fetch failed
-- ARGV[3]    'mine': this worker gives up the lease; 'everybody': a note keeps all workers from fetching
-- ARGV[4..5] HTTP status and time until the next try (ms), for the note
-- ARGV[6]    channel of the notices
-- ARGV[7]    stamp of the note, or of the failure while no note stands; '' for none
-- Returns {1, or 0, without effect, if it is not the latest grant; the result of the notice}

if state.holder ~= ME or state.grant ~= tonumber(ARGV[2]) then return {0, notice} end
set('outcome', 'failed')
set('failures', state.failures + 1)
local kind
if ARGV[3] == 'everybody' then
  local status, length = tonumber(ARGV[4]), tonumber(ARGV[5])
  if status ~= state.note_status then kind = 'note' end
  set('note_status', status) set('note_until', clock + length) set('note_length', length)
  set('note_stamp', ARGV[7])
else
  if state.note_status == 0 then set('note_stamp', ARGV[7]) end
  if leads() then
    give_up()
    kind = 'free'
  end
end
save()
if kind then notify(ARGV[6], kind) end
return {1, notice}
