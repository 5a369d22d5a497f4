-- The head of every script of the Redis store: loads and checks the stored state; `save` writes it back.
-- A mirror of flagcache/stores/rules/, function by function; the contract suite compares them.
--
-- KEYS[1]  hash: the definitions (`payload`), their metadata, the latest grants, the note
-- KEYS[2]  string: the lease; its value is the leader's identity, its time to live is the time left. An asker that does
--          without it leaves it out: then there is no leader, and the asker may not lead
-- KEYS[3]  the hash again, if this store refused a write of the asker before: a first write shows whether it still does
-- ARGV[1]  identity of the asking process; empty for people. Without other arguments they only look: nothing is changed
-- All times and lengths are whole milliseconds below 2^53; the clock is the server's own.
-- Anything that is no such number counts as absent. So do a version that cannot be a digest, an order that is no time,
-- a text that is too long or holds a control character, an impossible stamp, and a key of a foreign type.

local HASH, LEASE, ME = KEYS[1], KEYS[2], ARGV[1]
local GRANTS_PER_INTERVAL, REPUBLISH_EVERY, LONGEST_NOTE, GRACE = 3, 1000, 3600000, 2000
local REFRESHER = 'refresher!' -- the beginning of a refresher's identity
local FIELDS = {
  'version', 'etag', 'writer', 'project', 'holder', 'outcome', 'deputy', 'stamp', 'note_stamp', 'epoch_stamp',
  'epoch', 'as_of', 'changed_at', 'confirmed_at', 'size',
  'highest', 'grant', 'granted_1', 'granted_2', 'granted_3', 'lease_length', 'led_since', 'note_status', 'note_until',
  'note_length', 'repair_asked', 'failures', 'reporting', 'fence', 'deputy_seen', 'renewing', 'replaced_at', 'key_missed_at',
}
local FIRST_NUMBER = 11
local LONGEST_STAMP = 100
local LARGEST_PAYLOAD = 67108864 -- bytes; no process publishes a larger one
local LONGEST_VERSION, LONGEST_TAG, LONGEST_TEXT = 64, 1024, 512 -- bytes; flagcache/stores/rules/fields.py
local FAR = 315360000000 -- ten years: a number further ahead of the clock is no time; counting from it would reach 2^53

local function whole(text)
  if not text or not string.match(text, '^%d+$') then return nil end
  local n = tonumber(text)
  return n < 9007199254740992 and n or nil
end

local function digits(n) return string.format('%.0f', n) end

local function now()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- A read of a key of a foreign type removes that key and logs it in the server: no other program may use our names.
local function read(command, key, ...)
  local value = redis.pcall(command, key, ...)
  if type(value) == 'table' and value.err then
    if not string.find(value.err, 'WRONGTYPE', 1, true) then return redis.call(command, key, ...) end
    if ME == '' and not ARGV[2] then return nil end
    redis.call('DEL', key)
    if redis.log then redis.log(redis.LOG_WARNING, 'flagcache removed ' .. key .. ': it was of a foreign type') end
    return redis.call(command, key, ...)
  end
  return value
end

local function sound(text, longest) return #text <= longest and not string.find(text, '%c') end

local clock = now()
local state, dirty = {}, {}

local function set(field, value)
  if state[field] == value then return end
  state[field] = value
  dirty[#dirty + 1] = field
  dirty[#dirty + 1] = type(value) == 'number' and digits(value) or value
end

local function save()
  if #dirty > 0 then redis.call('HSET', HASH, unpack(dirty)) end
end

local invalid_epoch = false -- the stored epoch is too high: no worker wrote it
local huge = {} -- fields too long for any worker to have written: a poll removes them, or each script would read them again

local function load()
  local values = read('HMGET', HASH, unpack(FIELDS)) or {}
  for i, field in ipairs(FIELDS) do
    if #(values[i] or '') > 4096 then huge[#huge + 1] = field end
    if i < FIRST_NUMBER then state[field] = values[i] or '' else state[field] = whole(values[i]) or 0 end
  end
  local times = whole(values[12]) and whole(values[13]) and whole(values[14]) and whole(values[15])
  local named = #state.version <= LONGEST_VERSION and string.find(state.version, '^[%w._-]+$')
    and sound(state.etag, LONGEST_TAG) and sound(state.writer, LONGEST_TEXT) and sound(state.project, LONGEST_TEXT)
  state.stored = times and named and state.size > 0 and state.size <= LARGEST_PAYLOAD
    and state.as_of <= clock + FAR and redis.call('HSTRLEN', HASH, 'payload') == state.size and true or false
  if state.highest > clock + FAR then state.highest = 0 end
  if state.grant > clock + FAR then state.grant = 0 end
  if state.fence > state.grant then set('fence', 0) end -- it is the `as_of` of an earlier grant
  for _, field in ipairs({'stamp', 'note_stamp', 'epoch_stamp'}) do
    if #state[field] > LONGEST_STAMP or string.find(state[field], '[^ -9;-~]') then state[field] = '' end
  end
  if state.epoch > clock + FAR then -- no `clear` counts so high; and because the clock goes on, a next epoch exists
    invalid_epoch = true
    set('epoch', 0) set('epoch_stamp', '')
  end
  if state.outcome ~= 'open' and state.outcome ~= 'failed' then state.outcome = 'done' end
  if not sound(state.holder, LONGEST_TEXT) then state.holder = '' end
  if not sound(state.deputy, LONGEST_TEXT) then state.deputy = '' end
  state.owner = LEASE and read('GET', LEASE) or ''
  if not sound(state.owner, LONGEST_TEXT) then state.owner = '' end
  state.lease_left = state.owner ~= '' and redis.call('PTTL', LEASE) or 0
  set('highest', math.max(state.highest, state.grant, state.stored and state.as_of or 0))
end

-- Whether something of this length that ends at this time is still under way; not if it ends too far ahead.
local function running(ends, length) return clock < ends and ends <= clock + length end

local function passed(since, length) return not running(since + length, length) end

local function leased() return state.owner ~= '' and state.lease_left > 0 and state.lease_left <= state.lease_length end

local function leads() return state.owner == ME and leased() end

local function lease(length)
  -- Not PEXPIRE: a server that is out of memory allows it, and the script may then continue to write. So a full store
  -- would go unnoticed until the definitions change, and would refuse those.
  redis.call('SET', LEASE, ME, 'PX', length)
  state.owner, state.lease_left = ME, length
  set('lease_length', length)
end

local function extend(length) if leads() then lease(length) end end

-- The store was emptied, and new workers wait: a leader that doesn't renew its lease is replaced soon.
local function hurry()
  if not leased() or state.lease_left <= GRACE then return end
  redis.call('SET', LEASE, state.owner, 'PX', GRACE)
  state.lease_left = GRACE
  set('lease_length', GRACE)
end

local function give_up()
  redis.call('DEL', LEASE)
  state.owner, state.lease_left = '', 0
end

local function drop()
  redis.call('HDEL', HASH, 'payload')
  set('version', '') set('stamp', '') set('size', 0) set('repair_asked', 0)
  state.stored = false
end

local function end_idle_grant(last_grant)
  if state.outcome == 'open' and state.holder == ME and state.grant == last_grant then set('outcome', 'done') end
end

-- Whether the latest grant went to a holder that does not report its answers, and is not known to have failed.
local function silent_grant() return state.grant ~= state.reporting and state.outcome ~= 'failed' end

-- Whether such a grant, given later, counts against definitions that were fetched on this one.
local function fenced(as_of) return as_of < math.max(state.fence, silent_grant() and state.grant or 0) end

local function clear_note()
  set('note_status', 0) set('note_until', 0) set('note_length', 0) set('note_stamp', '')
end

-- The fetch of this grant succeeded, which also ends a note that kept all workers from fetching.
local function answered(as_of)
  if state.holder == ME and state.grant == as_of then set('outcome', 'done') end
  if as_of >= state.grant then
    set('failures', 0)
    clear_note()
  end
end

-- The result of the notice: 0 if none was due, 1 if it was sent, else why the user may not publish. A notice is a hint,
-- so the verb, which has already taken effect, does not fail with it.
local notice = 0

local function notify(channel, kind, about)
  local sent = redis.pcall('PUBLISH', channel, kind .. ' ' .. digits(state.epoch) .. ' ' .. (about or state.version))
  notice = type(sent) == 'table' and sent.err or 1
end

-- The result of setting the time to live: 0, or why the user may not set it. A verb does not fail for that.
local expiry = 0

-- Let the stored keys expire after this time (ms; 0: never). Only the leader renews that; a key without a time to live
-- gets one from any worker that writes it. Only after a write that needs memory, because after one that needs none a
-- full server lets the script continue.
local function live(length)
  if length == 0 or not (leads() or redis.call('PTTL', HASH) == -1) then return end
  local set = redis.pcall('PEXPIRE', HASH, length)
  if type(set) == 'table' then expiry = set.err end
end

load()
if KEYS[3] then redis.call('HSET', HASH, 'highest', digits(state.highest)) end
