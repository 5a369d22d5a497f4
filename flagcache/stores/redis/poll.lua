-- Store.poll: decide lease and grant, and send what the asker lacks.
--
-- ARGV[2..5]   interval, lease, cold lease, challenge time (ms)
-- ARGV[6]      may lead: 1 or 0
-- ARGV[7]      idle (no fetch of the asker is under way): 1 or 0
-- ARGV[8]      as_of of the last grant that reached the asker
-- ARGV[9]      age of the latest grant known to the asker (ms), -1: knows of none
-- ARGV[10..13] what the asker holds: epoch (-1: nothing), as_of, age (ms), version
-- ARGV[14]     longest time between two grants while fetches fail (ms)
--
-- Returns {clock, leads, lease left, granted at, bits, grant, note, meta, payload}
--   bits    1: unchanged; 2: republish what you hold
--   grant   0 or {epoch, as_of, at}
--   note    0, or {status, time left} from a failure for everybody until a success
--   meta    0 or {version, etag, writer, project, epoch, as_of, changed_at, confirmed_at}
--   payload 0, or the payload where it is newer and of another version than what is held

local interval, full_lease, cold_lease, challenge = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local may_lead, idle, last_grant, grant_age = ARGV[6] == '1', ARGV[7] == '1', tonumber(ARGV[8]), tonumber(ARGV[9])
local held_epoch, held_as_of, held_age, held_version = tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12]), ARGV[13]

local said_as_of = held_as_of

local function unchanged()
  return state.stored and state.epoch == held_epoch and state.as_of == said_as_of and state.version == held_version
end

-- An as_of of another store, or ahead of the clock, would order as newer than all that comes; the age does not lie.
if held_epoch >= 0 and not (held_as_of > 0 and (held_as_of <= clock or unchanged())) then
  held_as_of = math.max(1, clock - held_age)
end

if held_epoch > state.epoch then -- the store has lost its epoch: whoever knows it tells
  set('epoch', held_epoch)
  if state.stored and state.as_of < held_as_of then drop() end -- it may be what people cleared
end

if idle then end_idle_grant(last_grant) end

-- A tenth is left for workers that poll a little early. While fetches fail in a row the interval doubles.
local function due()
  local length = interval
  if state.failures > GRANTS_PER_INTERVAL then
    local doublings = math.min(state.failures - GRANTS_PER_INTERVAL, 20)
    length = math.max(length, math.min(tonumber(ARGV[14]), length * 2 ^ doublings))
  end
  length = math.floor(length * 9 / 10)
  return passed(state.granted_1, length) and not (grant_age >= 0 and grant_age < length)
end

-- The leader has brought nothing to light for so long that another worker is to have a turn.
local function silent(more)
  if not state.stored then return false end
  local since = math.max(state.confirmed_at <= clock and state.confirmed_at or 0, state.led_since)
  return passed(since, challenge + (more or 0))
end

-- Whether I am a refresher and the other is a worker.
local function precedes(other)
  return string.sub(ME, 1, #REFRESHER) == REFRESHER and string.sub(other, 1, #REFRESHER) ~= REFRESHER
end

-- A refresher takes the lease from a worker at any time, but not while that one makes the first fetch.
local function elect()
  local length = state.stored and full_lease or cold_lease
  if leads() then return lease(length) end
  local turn = state.holder ~= ME and due() and silent()
  local first_fetch = not state.stored and state.outcome == 'open'
  if leased() and not turn and (first_fetch or not precedes(state.owner)) then return end
  lease(length)
  set('led_since', clock)
end

-- Whether the leader may fetch at once because the latest grant came to nothing.
local function follows()
  if state.failures >= GRANTS_PER_INTERVAL then return false end
  if not passed(state['granted_' .. GRANTS_PER_INTERVAL], interval) then return false end
  if state.outcome == 'failed' then return true end
  if state.outcome == 'open' then
    -- It has lost the lease, for I lead: it died. Or I took the lease from it, and its fetch is still under way.
    return state.holder ~= ME and (not state.stored or not precedes(state.holder))
  end
  return not state.stored and held_epoch < state.epoch -- what it brought is lost, or was cleared
end

-- Whether a failure for everybody keeps all from fetching; for longer than any of ours does, it is none.
local function noted()
  return state.note_length <= math.max(LONGEST_NOTE, tonumber(ARGV[14])) and running(state.note_until, state.note_length)
end

local function grant()
  if not leads() or not may_lead or noted() then return 0 end
  local lost = state.holder == ME and state.outcome == 'open' and state.grant > last_grant
  if lost and (held_epoch < 0 or state.grant > held_as_of) then -- else what it brought would be refused as late
    return {state.epoch, state.grant, state.granted_1}
  end
  local challenged = state.holder == ME and silent()
  if challenged and not silent(math.floor(interval * 9 / 10)) then
    return 0 -- from now on the others have an interval to take this turn
  end
  if not due() and not follows() then return 0 end
  local as_of = math.max(clock, state.highest + 1, last_grant + 1, held_epoch >= 0 and held_as_of + 1 or 0)
  set('highest', as_of) set('grant', as_of)
  set('granted_3', state.granted_2) set('granted_2', state.granted_1) set('granted_1', clock)
  set('holder', ME) set('outcome', 'open')
  if challenged then set('led_since', clock) end
  return {state.epoch, as_of, clock}
end

if may_lead then elect() end
local granted = grant()

local bits, meta, payload, note = 0, 0, 0, 0
if unchanged() then
  bits = 1
else
  local newer = state.stored and
    (held_epoch < 0 or state.epoch > held_epoch or (state.epoch == held_epoch and state.as_of >= held_as_of))
  if held_epoch >= 0 and not newer and held_epoch == state.epoch and passed(state.repair_asked, REPUBLISH_EVERY) then
    bits = 2
    set('repair_asked', clock)
  end
  if state.stored then
    meta = {
      state.version, state.etag, state.writer, state.project,
      state.epoch, state.as_of, state.changed_at, state.confirmed_at,
    }
  end
  if newer and state.version ~= held_version then payload = redis.call('HGET', HASH, 'payload') end
end
if noted() or state.note_status > 0 then note = {state.note_status, noted() and state.note_until - clock or 0} end

save()
return {clock, leads() and 1 or 0, leased() and state.lease_left or 0, state.granted_1, bits, granted, note, meta, payload}
