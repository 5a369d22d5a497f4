-- Store.confirm: the vendor said "unchanged"; move the ages of the stored version forward to the grant's time.
--
-- ARGV[2]    version that was confirmed
-- ARGV[3..4] as_of and clock of the grant
-- ARGV[5]    lease to keep (ms)
-- ARGV[6]    channel of the notices
-- ARGV[7]    time to live (ms)
-- ARGV[8]    stamp of these times; '' for none
-- Returns {1, or 0 if another version or none is stored; the results of the notice and of the time to live}

local as_of, at, keep = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
if not state.stored or state.version ~= ARGV[2] then return {0, notice} end
local first, unsigned = state.confirmed_at < state.led_since, state.stamp == ''
if as_of > state.as_of then
  set('as_of', as_of) set('confirmed_at', at) set('stamp', ARGV[8])
  set('highest', math.max(state.highest, as_of))
end
local noted = state.note_status
answered(as_of)
extend(keep)
save()
live(tonumber(ARGV[7]))
-- The first confirmation of a leader without a deputy: followers ask at once, and the first of them becomes deputy. The
-- first signature of unsigned times: processes that have a key doubted them.
local signed = unsigned and state.stamp ~= ''
if noted > 0 and state.note_status == 0 or signed or first and state.deputy == '' then notify(ARGV[6], 'note') end
return {1, notice, expiry}
