-- The first part of every script: it drops what the script would write for a reader.
--
-- ARGV[last]  of a reader's scripts: \0reader
-- So a reader's user needs only the rights to read, and a script that the server runs as read-only does not fail. All
-- processes send the same text, so a server that has a worker's scripts also has a reader's.

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
