-- Store.poll: decide lease and grant, and send what the asker lacks.
--
-- ARGV[2..5]   interval, lease, cold lease, challenge time (ms)
-- ARGV[6]      may lead: 1 or 0
-- ARGV[7]      idle (no fetch of the asker is under way): 1 or 0
-- ARGV[8]      as_of of the last grant that reached the asker
-- ARGV[9]      age of the latest grant known to the asker (ms), -1: it knows of none
-- ARGV[10..13] what the asker holds: epoch (-1: nothing), as_of, age (ms), version. The epoch may be followed by `:`, its
--              stamp, `:`, the epoch of this store that the asker does not believe, `:` and the stamp that this one has
-- ARGV[14]     longest time between two grants while fetches fail (ms)
-- ARGV[15]     bits 1: the asker reports each answer to a fetch; 2: it is the deputy, and looks; 4: it acts between polls;
--              8: it is in its first load; 16: it does not believe the lease of ARGV[16] while the store is empty;
--              32: it does not believe the note that stands; 64: it has a key
-- ARGV[16]     who leads, as far as the asker knows
-- ARGV[17]     number of the database, with which the channel's name ends: the whole name would be sent with each poll
-- ARGV[18]     time to live (ms); a poll renews none, but a grant may be all that is stored
-- ARGV[19]     bytes of the largest payload that the asker takes
--
-- Returns {clock, leads, lease left, granted at, bits, grant, note, meta, payload, leader} and, if the asker has a key and
--         the store's epoch is not that of what it holds (0 if it holds nothing), {epoch, stamp}
--   bits    1: unchanged; 2: republish what you hold; 4: you are the deputy; 8: another process is fetching; 16: no try is
--           left in this interval; 32: the payload is newer, and larger than you accept
--   grant   0 or {epoch, as_of, at}
--   note    0, or {status, time left, stamp} from a failure for all until a success; {0, 0, stamp} of the latest
--           failure if no try is left
--   meta    0 or {version, etag, writer, project, epoch, as_of, changed_at, confirmed_at, stamp}
--   payload 0, or the payload if it is newer and of another version than what is held
--   leader  0 if it is the one that the asker knows; else its identity, empty if there is none

local interval, full_lease, cold_lease, challenge = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local may_lead, idle, last_grant, grant_age = ARGV[6] == '1', ARGV[7] == '1', tonumber(ARGV[8]), tonumber(ARGV[9])
local held_epoch, epoch_stamp, doubted, doubted_stamp = string.match(ARGV[10], '^(%-?%d+):?([^:]*):?(%d*):?([^:]*)$')
held_epoch, doubted = tonumber(held_epoch), tonumber(doubted)
local held_as_of, held_age, held_version = tonumber(ARGV[11]), tonumber(ARGV[12]), ARGV[13]

-- A payload that is too large for any worker to have published is never sent, and its memory is freed.
if not state.stored and redis.call('HSTRLEN', HASH, 'payload') > LARGEST_PAYLOAD then drop() end
if #huge > 0 then
  if not state.stored then drop() end -- the definitions that one of them belonged to
  redis.call('HDEL', HASH, unpack(huge))
end

local function asker(bit) return math.floor(tonumber(ARGV[15]) / bit) % 2 == 1 end
local reports, watches, listens, starts, doubts, disbelieves = asker(1), asker(2), asker(4), asker(8), asker(16), asker(32)
local said_as_of = held_as_of

local function unchanged()
  return state.stored and state.epoch == held_epoch and state.as_of == said_as_of and state.version == held_version
end

-- An as_of of another store, or ahead of the clock, would count as newer than all later ones; the age is right.
if held_epoch >= 0 and not (held_as_of > 0 and (held_as_of <= clock or unchanged())) then
  held_as_of = math.max(1, clock - held_age)
end

if held_epoch > state.epoch then -- the store has lost its epoch, and the asker knows it
  set('epoch', held_epoch) set('epoch_stamp', epoch_stamp)
  if state.stored and state.as_of < held_as_of then drop() end -- it may be what people cleared
end

if doubted and held_epoch >= 0 and held_epoch < state.epoch and state.epoch == doubted
    and state.epoch_stamp == doubted_stamp then -- it has no valid signature
  set('epoch', held_epoch) set('epoch_stamp', epoch_stamp)
end

if idle then end_idle_grant(last_grant) end

-- From one grant to the next; while fetches fail in a row it doubles.
local function pause()
  if state.failures <= GRANTS_PER_INTERVAL then return interval end
  local doublings = math.min(state.failures - GRANTS_PER_INTERVAL, 20)
  return math.max(interval, math.min(tonumber(ARGV[14]), interval * 2 ^ doublings))
end

local function since_grant(length)
  return passed(state.granted_1, length) and not (grant_age >= 0 and grant_age < length)
end

-- A tenth is left for workers that poll a little early.
local function due() return since_grant(math.floor(pause() * 9 / 10)) end

-- Whether a failure that concerns all workers stops all fetches. A note longer than any worker writes does not count.
local function noted()
  if disbelieves then return false end
  return state.note_length <= math.max(LONGEST_NOTE, tonumber(ARGV[14])) and running(state.note_until, state.note_length)
end

-- Whether the first is a refresher and the second a worker.
local function precedes(one, other)
  return string.sub(one, 1, #REFRESHER) == REFRESHER and string.sub(other, 1, #REFRESHER) ~= REFRESHER
end

-- A fetch has been due for so long that the leader must be dead, frozen or starved. One under way is not overdue: as
-- long as its holder renews the lease or, because an SDK that fetches can't renew it, until the lease expires.
local function neglected()
  if not listens or not state.stored or precedes(state.owner, ME) then return false end
  if noted() or not passed(state.note_until, GRACE) or not since_grant(pause() + GRACE) then return false end
  if state.outcome ~= 'open' or state.holder ~= state.owner then return true end
  local renewed = clock + state.lease_left - state.lease_length
  return state.grant == state.reporting and not running(renewed + GRACE, GRACE)
end

-- The fetch under way, without which the asker cannot start, has lost its holder: one that listens renews each second.
local function abandoned()
  if not starts or not state.stored or precedes(state.owner, ME) then return false end
  if state.outcome ~= 'open' or state.holder ~= state.owner or state.grant ~= state.renewing then return false end
  local renewed, old = clock + state.lease_left - state.lease_length, math.floor(interval * 3 / 2)
  return passed(state.confirmed_at, old) and passed(renewed, GRACE)
end

-- The leader has published and confirmed nothing for so long that another worker gets a turn.
local function silent(more)
  if not state.stored then return false end
  local since = math.max(state.confirmed_at <= clock and state.confirmed_at or 0, state.led_since)
  return passed(since, challenge + (more or 0))
end

-- An empty store has a lease that no process uses: no fetch was granted for longer than the asker's longest lease,
-- although one was due. A fetch is under way as long as its holder renews the lease each second.
local function unused()
  if state.stored or noted() then return false end
  if doubts and state.owner == ARGV[16] then return true end
  local longest, renewed = math.max(full_lease, cold_lease), clock + state.lease_left - state.lease_length
  if state.lease_left <= GRACE or not passed(state.led_since, longest) then return false end
  local fetches = state.outcome == 'open' and state.holder == state.owner and running(renewed + GRACE, GRACE)
  return since_grant(pause() + longest) and not fetches
end

-- A refresher takes the lease from a worker at any time, except during the worker's first fetch.
local function elect()
  local length = state.stored and full_lease or cold_lease
  if leads() then return lease(length) end
  local turn = state.holder ~= ME and due() and silent()
  local first_fetch = not state.stored and state.outcome == 'open'
  local missed = neglected() or abandoned() or unused()
  if leased() and not turn and not missed and (first_fetch or not precedes(ME, state.owner)) then return end
  lease(length)
  set('led_since', clock)
  if state.deputy == ME then set('deputy', '') set('deputy_seen', 0) end
end

-- Make the asker deputy if there is none, or none that looked recently. Of its polls only these looks write.
local function appoint()
  if not listens or leads() then return end
  if state.deputy == ME then
    if watches then set('deputy_seen', clock) end
  elseif state.deputy == '' or passed(state.deputy_seen, 2 * (interval + GRACE)) then
    set('deputy', ME) set('deputy_seen', clock)
  end
end

-- Whether the leader may fetch at once because the latest grant brought nothing.
local function follows()
  if state.failures >= GRANTS_PER_INTERVAL then return false end
  if not passed(state['granted_' .. GRANTS_PER_INTERVAL], interval) then return false end
  if state.outcome == 'failed' then return true end
  if state.outcome == 'open' then
    -- The asker leads, so the holder lost the lease: it died. Or the asker took the lease, and its fetch still runs.
    return state.holder ~= ME and (not state.stored or not precedes(ME, state.holder))
  end
  return not state.stored and held_epoch < state.epoch -- what it brought is lost, or was cleared
end

local lost = state.granted_1 == 0 and (grant_age >= 0 or held_epoch >= 0) -- its memory, as the asker's shows

local function grant()
  if not leads() or not may_lead or noted() then return 0 end
  local due = due() -- then a new one: the lost one would date definitions long before their fetch
  local lost = not due and state.holder == ME and state.outcome == 'open' and state.grant > last_grant
  if lost and (held_epoch < 0 or state.grant > held_as_of) then -- else what it brought would be refused as late
    return {state.epoch, state.grant, state.granted_1}
  end
  local challenged = state.holder == ME and silent()
  if challenged and not silent(math.floor(interval * 9 / 10)) then
    return 0 -- from now on the others have an interval to take this turn
  end
  local followed = doubts and not state.stored and state.led_since == clock -- whatever the doubted leader was granted
  if not due and not followed and not follows() then return 0 end
  local as_of = math.max(clock, state.highest + 1, last_grant + 1, held_epoch >= 0 and held_as_of + 1 or 0)
  if silent_grant() then set('fence', math.max(state.fence, state.grant)) end
  if reports then set('reporting', as_of) end
  if listens then set('renewing', as_of) end
  set('highest', as_of) set('grant', as_of)
  set('granted_3', state.granted_2) set('granted_2', state.granted_1) set('granted_1', clock)
  set('holder', ME) set('outcome', 'open')
  if challenged then set('led_since', clock) end
  return {state.epoch, as_of, clock}
end

if may_lead then elect() end
local granted = grant()
appoint()

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
      state.epoch, state.as_of, state.changed_at, state.confirmed_at, state.stamp,
    }
  end
  if newer and state.version ~= held_version then
    if state.size <= tonumber(ARGV[19]) then payload = redis.call('HGET', HASH, 'payload') else bits = bits + 32 end
  end
end
if state.deputy == ME then bits = bits + 4 end
local exhausted = state.outcome == 'failed' and state.failures >= GRANTS_PER_INTERVAL
if noted() or state.note_status > 0 or (exhausted and state.note_stamp ~= '') then
  note = {state.note_status, noted() and state.note_until - clock or 0, state.note_stamp}
end

-- Another process's grant is open (its first as leader, or one whose end it reports), and it took or renewed its lease
-- less than a cold lease ago.
local renewed = clock + state.lease_left - state.lease_length
local told = state.led_since >= state.granted_1 or state.grant == state.reporting
if state.outcome == 'open' and state.holder ~= '' and state.holder ~= ME and state.owner == state.holder and told
  and leased() and running(renewed + cold_lease, cold_lease) then bits = bits + 8 end
if exhausted then bits = bits + 16 end

local leader = leased() and state.owner or ''
if leader == ARGV[16] then leader = 0 end

save()
if granted ~= 0 and redis.call('PTTL', HASH) == -1 then live(tonumber(ARGV[18])) end
if lost and granted ~= 0 then
  local channel = string.gsub(HASH, ':definitions$', ':notices:' .. ARGV[17])
  notify(channel, 'granted', digits(granted[2]))
end
local reply = {
  clock, leads() and 1 or 0, leased() and state.lease_left or 0, state.granted_1, bits, granted, note, meta, payload, leader,
}
if asker(64) and state.epoch ~= math.max(held_epoch, 0) then reply[#reply + 1] = {state.epoch, state.epoch_stamp} end
return reply
