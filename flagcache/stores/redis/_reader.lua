-- The head of a reader's scripts, before `_state.lua`. On a replica they write nothing, even if it would take a write.
--
-- REFUSED  true if the server refused a write before; then it counts as a replica
-- SKIPS    true: what would be written is left out; else the script fails as on a replica that takes no writes

local server = redis
local redis = setmetatable({}, {__index = server})
local WRITES = {DEL = true, HDEL = true, HSET = true, PEXPIRE = true, PUBLISH = true, SET = true}
local replica, gone = REFUSED, {}

-- Asked only before a write. A user without the right to ask counts as one of a primary, which may refuse the write.
local function is_replica()
  if replica == nil then
    local info = server.pcall('INFO', 'replication')
    replica = type(info) == 'string' and string.find(info, 'role:slave', 1, true) ~= nil
  end
  return replica
end

local function absent(command)
  if command == 'HMGET' then return {} end
  return command == 'HSTRLEN' and 0
end

local function leave_out(command, key)
  if not SKIPS then error('READONLY a reader writes nothing to a replica') end
  if command == 'DEL' then gone[key] = true end
  return 0
end

function redis.call(...)
  local command, key = ...
  if WRITES[command] and is_replica() then return leave_out(command, key) end
  if key and gone[key] then return absent(command) end
  return server.call(...)
end

function redis.pcall(...)
  local command, key = ...
  if WRITES[command] and is_replica() then return leave_out(command, key) end
  return server.pcall(...)
end
