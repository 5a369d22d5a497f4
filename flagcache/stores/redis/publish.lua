-- Store.publish: accept definitions newer than the stored ones; refuse a late writer.
-- Payload and metadata are always written together, so that both are protected with one key.
--
-- ARGV[2]     channel of the notices
-- ARGV[3]     fresh (a fetch has just brought it): 1 or 0
-- ARGV[4]     lease to keep (ms)
-- ARGV[5..12] version, etag, writer, project, epoch, as_of, changed_at, confirmed_at
-- ARGV[13]    payload
-- ARGV[14]    version that it is to replace, even if that is newer, because the asker lacks its key; '' for none
-- ARGV[15]    time in which the namespace allows one such publication (ms)
-- ARGV[16]    time to live (ms)
-- ARGV[17]    stamp of the times; '' for none
--
-- Returns {'stored', 'confirmed' (the same version was there; at most its ages moved), 'stale' (refused) or 'unsettled'
--         (refused for now: the fetch of a later grant may have found newer definitions); the results
--         of the notice and of the time to live}

if ARGV[14] ~= '' then
  local same = state.stored and state.version == ARGV[14]
  if not same or tonumber(ARGV[9]) < state.epoch or not passed(state.replaced_at, tonumber(ARGV[15])) then
    return {'stale', notice}
  end
  set('replaced_at', clock)
  state.stored = false
end

local fresh, keep = ARGV[3] == '1', tonumber(ARGV[4])
local version, etag, writer, project, stamp = ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[17]
local epoch, as_of, changed_at, confirmed_at =
  tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12])

if fresh and as_of == state.grant and state.holder == ME then
  epoch = state.epoch -- the store gave the grant, so the definitions have its epoch
end
local older = state.stored and (epoch < state.epoch or (epoch == state.epoch and as_of <= state.as_of))
if older or epoch < state.epoch then
  if epoch < state.epoch or state.version ~= version then return {'stale', notice} end
  if as_of == state.as_of then -- the same content once more, perhaps under another key
    redis.call('HSET', HASH, 'payload', ARGV[13])
    set('size', #ARGV[13])
    if etag ~= '' then set('etag', etag) end
    set('writer', writer) set('project', project) set('stamp', stamp)
  end
  extend(keep)
  save()
  live(tonumber(ARGV[16]))
  return {'confirmed', notice, expiry}
end
if fresh and state.stored and fenced(as_of) then return {'unsettled', notice} end

local noted = state.note_status
local same = state.stored and state.version == version
local signed = same and state.stamp == '' and stamp ~= '' -- processes that have a key doubted the times
if same then
  changed_at = state.changed_at
  if etag == '' then etag = state.etag end
end
redis.call('HSET', HASH, 'payload', ARGV[13])
set('size', #ARGV[13])
set('version', version) set('etag', etag) set('writer', writer) set('project', project)
set('epoch', epoch) set('as_of', as_of) set('changed_at', changed_at) set('confirmed_at', confirmed_at)
set('stamp', stamp)
set('highest', math.max(state.highest, as_of))
if fresh then answered(as_of) end
extend(keep)
save()
live(tonumber(ARGV[16]))
if same then
  if noted > 0 and state.note_status == 0 or signed then notify(ARGV[2], 'note') end
  return {'confirmed', notice, expiry}
end
notify(ARGV[2], 'new')
return {'stored', notice, expiry}
