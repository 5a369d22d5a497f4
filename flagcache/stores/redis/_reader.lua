-- The first part of every script: for a reader nothing is written, whatever the script would write.
--
-- ARGV[last]  of a reader's scripts: \0reader
-- What a reader would write is left out, so that its user needs the rights to read alone, and a script that the server runs
-- as read-only does not fail. One text for all processes, so that a server that knows a worker's scripts knows those of a
-- reader.

local function reading(server)
  local redis, gone = setmetatable({log = function() end}, {__index = server}), {}
  local WRITES = {
    DEL = true, HDEL = true, HSET = true, PERSIST = true, PEXPIRE = true, PUBLISH = true, SET = true, UNLINK = true,
  }

  local function absent(command)
    if command == 'HMGET' then return {} end
    return command == 'HSTRLEN' and 0
  end

  local function run(run_on_server, ...)
    local command, key = ...
    if WRITES[command] then
      if command == 'DEL' then gone[key] = true end
      return 0
    end
    if key and gone[key] then return absent(command) end
    return run_on_server(...)
  end

  function redis.call(...) return run(server.call, ...) end

  function redis.pcall(...) return run(server.pcall, ...) end

  return redis
end

local redis = redis
if ARGV[#ARGV] == '\0reader' then redis = reading(redis) end
