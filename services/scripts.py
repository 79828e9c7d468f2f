"""The store's Lua scripts: every change of a job is one of them, so each is atomic.

Only commands that Redis 7.0 has. Times come from the server (`TIME`), so there is one
clock however many replicas there are. A script that may be sent again after a lost reply
takes a nonce and answers the second time what it answered the first.
"""

from __future__ import annotations

_NOW = """
local function now()
  local time = redis.call('TIME')
  return time[1] .. '.' .. string.format('%06d', tonumber(time[2]))
end
"""

# The stream's ids are our own count, so they are gapless and XLEN is the newest.
_APPEND = """
local function append(events, at, level, message, type, data)
  local id = redis.call('XLEN', events) + 1
  redis.call('XADD', events, id .. '-0',
    'at', at, 'level', level, 'message', message, 'type', type, 'data', data)
  return id
end
"""

# KEYS job events jobs queue counts sequence | ARGV id spec metadata message data
CREATE = (
    _NOW
    + _APPEND
    + """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local at = now()
local sequence = redis.call('INCR', KEYS[6])
redis.call('HSET', KEYS[1], 'id', ARGV[1], 'status', 'queued', 'created_at', at,
  'spec', ARGV[2], 'metadata', ARGV[3], 'cancel_requested', '0')
redis.call('ZADD', KEYS[3], sequence, ARGV[1])
redis.call('ZADD', KEYS[4], sequence, ARGV[1])
redis.call('HINCRBY', KEYS[5], 'queued', 1)
append(KEYS[2], at, 'info', ARGV[4], 'message', ARGV[5])
return 1
"""
)

# KEYS queue running counts claim | ARGV job_prefix events_prefix worker nonce message data
CLAIM = (
    _NOW
    + _APPEND
    + """
if redis.call('HGET', KEYS[4], 'nonce') == ARGV[4] then
  return redis.call('HGET', KEYS[4], 'job')
end
local popped = redis.call('ZPOPMIN', KEYS[1])
if #popped == 0 then return false end
local id = popped[1]
local at = now()
redis.call('HSET', ARGV[1] .. id, 'status', 'running', 'started_at', at, 'worker', ARGV[3])
redis.call('SADD', KEYS[2], id)
redis.call('HINCRBY', KEYS[3], 'queued', -1)
redis.call('HINCRBY', KEYS[3], 'running', 1)
redis.call('HSET', KEYS[4], 'nonce', ARGV[4], 'job', id)
redis.call('EXPIRE', KEYS[4], 3600)
append(ARGV[2] .. id, at, 'info', ARGV[5], 'message', ARGV[6])
return id
"""
)

# KEYS job events queue running counts
# ARGV id to sources nonce level message data error result
# Answers {'missing'}, {'refused', status} or {'done', status}.
TRANSITION = (
    _NOW
    + _APPEND
    + """
local from = redis.call('HGET', KEYS[1], 'status')
if not from then return {'missing'} end
if redis.call('HGET', KEYS[1], 'nonce') == ARGV[4] then return {'done', from} end
if not string.find(',' .. ARGV[3] .. ',', ',' .. from .. ',', 1, true) then
  return {'refused', from}
end
local at = now()
redis.call('HSET', KEYS[1], 'status', ARGV[2], 'finished_at', at, 'nonce', ARGV[4],
  'error', ARGV[8], 'result', ARGV[9])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('SREM', KEYS[4], ARGV[1])
redis.call('HINCRBY', KEYS[5], from, -1)
redis.call('HINCRBY', KEYS[5], ARGV[2], 1)
append(KEYS[2], at, ARGV[5], ARGV[6], 'message', ARGV[7])
return {'done', ARGV[2]}
"""
)

# KEYS job events | ARGV nonce level message type data is_step
# Answers {'missing'}, {'refused', status} or {'done', id, at}.
APPEND_EVENT = (
    _NOW
    + _APPEND
    + """
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return {'missing'} end
if redis.call('HGET', KEYS[1], 'nonce') == ARGV[1] then
  local answered = redis.call('HMGET', KEYS[1], 'nonce_event', 'nonce_at')
  return {'done', answered[1], answered[2]}
end
if status == 'succeeded' or status == 'failed' or status == 'cancelled' then
  return {'refused', status}
end
local at = now()
local id = append(KEYS[2], at, ARGV[2], ARGV[3], ARGV[4], ARGV[5])
redis.call('HSET', KEYS[1], 'nonce', ARGV[1], 'nonce_event', id, 'nonce_at', at)
if ARGV[6] == '1' then redis.call('HSET', KEYS[1], 'progress', ARGV[5]) end
return {'done', tostring(id), at}
"""
)

# KEYS job events queue counts
# ARGV id cancelled_message cancelled_data requested_message requested_data
# A queued job is cancelled at once, a running one is asked.
# Answers {'missing'} or {'done', status}.
REQUEST_CANCEL = (
    _NOW
    + _APPEND
    + """
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return {'missing'} end
if status == 'queued' then
  local at = now()
  redis.call('HSET', KEYS[1], 'status', 'cancelled', 'finished_at', at, 'cancel_requested', '1')
  redis.call('ZREM', KEYS[3], ARGV[1])
  redis.call('HINCRBY', KEYS[4], 'queued', -1)
  redis.call('HINCRBY', KEYS[4], 'cancelled', 1)
  append(KEYS[2], at, 'info', ARGV[2], 'message', ARGV[3])
  return {'done', 'cancelled'}
end
if status == 'running' and redis.call('HGET', KEYS[1], 'cancel_requested') == '0' then
  redis.call('HSET', KEYS[1], 'cancel_requested', '1')
  append(KEYS[2], now(), 'info', ARGV[4], 'message', ARGV[5])
end
return {'done', status}
"""
)

# KEYS workers | ARGV worker ttl_seconds
HEARTBEAT = """
local at = tonumber(redis.call('TIME')[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', at)
return redis.call('ZADD', KEYS[1], at + tonumber(ARGV[2]), ARGV[1])
"""

# KEYS counts tiers | ARGV tier ttl_seconds state field increment field increment ...
# Adds up what was counted and keeps the tier's state of the moment; an empty one removes it.
TELL_VERIFIERS = """
for i = 4, #ARGV, 2 do redis.call('HINCRBYFLOAT', KEYS[1], ARGV[i], ARGV[i + 1]) end
if ARGV[3] == '' then return redis.call('HDEL', KEYS[2], ARGV[1]) end
local at = tonumber(redis.call('TIME')[1])
return redis.call('HSET', KEYS[2], ARGV[1], (at + tonumber(ARGV[2])) .. ' ' .. ARGV[3])
"""
