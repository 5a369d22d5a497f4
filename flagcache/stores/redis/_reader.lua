-- The first part of every script: a reader writes nothing to a replica, even if that would take a write.
--
-- ARGV[last]  of a reader's scripts one of these:
--   \0reader          what would be written to a replica fails as on one that takes no writes
--   \0reader skips    it is left out
--   and either with ` refused` behind it: the server refused a write before, and counts as a replica
-- One text for all processes, so that a server that knows a worker's scripts knows those of a reader.

local function reading(server, skips, replica)
  local redis, gone = setmetatable({}, {__index = server}), {}
  local WRITES = {
    DEL = true, HDEL = true, HSET = true, PERSIST = true, PEXPIRE = true, PUBLISH = true, SET = true, UNLINK = true,
  }

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
    if not skips then error('READONLY a reader writes nothing to a replica') end
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

  return redis
end

local redis, manner = redis, ARGV[#ARGV] or ''
if string.sub(manner, 1, 7) == '\0reader' then
  redis = reading(redis, string.find(manner, 'skips', 1, true) ~= nil, string.find(manner, 'refused', 1, true) and true or nil)
end
