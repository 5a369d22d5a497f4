-- Store.inspect: return everything stored except the payload, for people. Changes nothing.
--
-- Returns {clock, epoch, meta, payload's size, leader, lease left, granted at, grant's holder, note's status, note left}
--   meta  0 or {version, etag, writer, project, epoch, as_of, changed_at, confirmed_at, stamp}

local meta, live, noted = 0, leased(), running(state.note_until, state.note_length)
if state.stored then
  meta = {
    state.version, state.etag, state.writer, state.project,
    state.epoch, state.as_of, state.changed_at, state.confirmed_at, state.stamp,
  }
end
return {
  clock, state.epoch, meta, state.stored and state.size or 0,
  live and state.owner or '', live and state.lease_left or 0, state.granted_1, state.holder,
  state.note_status, noted and state.note_until - clock or 0,
}
