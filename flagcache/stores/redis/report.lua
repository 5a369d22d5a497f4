-- Store.report: a process lacks the key of this version. A notice asks the holders to look, at most once an interval.
--
-- ARGV[2] version whose key is lacking
-- ARGV[3] interval (ms)
-- ARGV[4] channel of the notices
-- Returns {1, or 0 if another version or none is stored, or holders were asked already; the result of the notice}

if not state.stored or state.version ~= ARGV[2] then return {0, notice} end
if not passed(state.key_missed_at, tonumber(ARGV[3])) then return {0, notice} end
set('key_missed_at', clock)
save()
notify(ARGV[4], 'note')
return {1, notice}
