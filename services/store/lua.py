"""What the store's Lua scripts share: every change of a job is one script, so it is atomic.

Only commands that Redis 7.0 has. Times come from the server (`TIME`), so there is one clock
however many replicas there are. Every key carries one hash tag, so those that a script makes
up lie in the slot of the key it was sent with.

A change is called with the job's id, a nonce, the tenant that asks ('' for the service
itself), the revision it expects ('' for any), and the fencing token of the runner ('' for
others); its own arguments follow as `arg(1)`, ... It answers `{'missing'}`, `{'stale',
revision}`, `{'fenced', token}`, `{'refused', why}` or `{'done', ...}`. What was done once is
answered from the nonce when it is sent again, after a reply that was lost.
"""

from __future__ import annotations

from services.redis_link import LIMIT, PREFIX

NONCE_SECONDS = 600  # far longer than anybody tries again
ATTEMPTS = 5
"""Claims in a row without a step done after which a job is failed."""

SHARED = (
    f"""
local P = '{PREFIX}'
local NONCE_SECONDS = {NONCE_SECONDS}
local ATTEMPTS = {ATTEMPTS}
"""
    + LIMIT
    + """
local id, nonce = ARGV[1], ARGV[2]
local job = P .. 'job:' .. id
local status = redis.call('HGET', job, 'status')

local function arg(n) return ARGV[n + 5] end
local function field(name) return redis.call('HGET', job, name) or '' end
local function amount(name) return tonumber(redis.call('HGET', job, name) or 0) end

local function now()
  local time = redis.call('TIME')
  return time[1] .. '.' .. string.format('%06d', tonumber(time[2]))
end

-- The stream's ids are our own count, so they are gapless and XLEN is the newest.
local function append(at, level, message, type, data)
  local events = P .. 'events:' .. id
  local number = redis.call('XLEN', events) + 1
  redis.call('XADD', events, number .. '-0',
    'at', at, 'level', level, 'message', message, 'type', type, 'data', data)
  return number
end

local function tell(at, level, message, data)
  return append(at, level, message, 'message', cjson.encode(data))
end

-- Higher priorities first, then older jobs: 12 bits over 40 are exact in a double.
local function enqueue()
  local tenant = field('tenant')
  local score = (1000 - amount('priority')) * 2^40 + amount('sequence')
  redis.call('ZADD', P .. 'queue:' .. tenant, string.format('%.0f', score), id)
  redis.call('SADD', P .. 'queues', tenant)
end

local function dequeue()
  local tenant = field('tenant')
  redis.call('ZREM', P .. 'queue:' .. tenant, id)
  if redis.call('EXISTS', P .. 'queue:' .. tenant) == 0 then
    redis.call('SREM', P .. 'queues', tenant)
  end
end

local function ran_until(at)
  local seconds = tonumber(at) - amount('claimed_at')
  redis.call('HINCRBYFLOAT', job, 'runtime_s', string.format('%.6f', math.max(0, seconds)))
end

local function count(from, to)
  for _, counts in ipairs({P .. 'counts', P .. 'counts:' .. field('tenant')}) do
    if from then redis.call('HINCRBY', counts, from, -1) end
    redis.call('HINCRBY', counts, to, 1)
  end
end

-- The one way from status to status: the queue, the leases and the counts follow. `ran` is
-- when a job that runs stopped to, if that is not now.
local function become(to, at, ran)
  if status == 'queued' then
    dequeue()
    redis.call('HDEL', job, 'waiting', 'unfit_since', 'not_before', 'overtaken')
  elseif status == 'running' then
    redis.call('ZREM', P .. 'leases', id)
    ran_until(ran or at)
  end
  count(status, to)
  redis.call('HSET', job, 'status', to)
  redis.call('HDEL', job, 'request', 'phase')
  if to == 'queued' then enqueue() end
  if to == 'succeeded' or to == 'failed' or to == 'cancelled' then
    redis.call('HSET', job, 'finished_at', at)
    -- For services/webhooks.py, which takes it from here: whoever dies, the outcome is told.
    redis.call('XADD', P .. 'outcomes', '*',
      'job', id, 'tenant', field('tenant'), 'status', to, 'at', at)
  elseif to ~= 'running' then
    redis.call('HDEL', job, 'worker')
  end
  redis.call('HINCRBY', job, 'revision', 1)
  status = to
end

local function ended() return status == 'succeeded' or status == 'failed' or status == 'cancelled' end

-- Ask the runner to do something at its next chance.
local function ask(what, at, level, message)
  redis.call('HSET', job, 'request', what)
  redis.call('HINCRBY', job, 'revision', 1)
  tell(at, level, message, {kind = 'status', status = status, request = what})
end

-- Why its tenant may train no more, or nil.
local function exhausted(tenant)
  local most = limit(tenant, 'trained_tokens')
  local trained = redis.call('HGET', P .. 'trained', tenant) or '0'
  if most and tonumber(trained) >= most then
    return 'its tenant has trained ' .. trained .. ' tokens of ' .. string.format('%.0f', most)
  end
end

-- Why the job's budget, or its tenant's, is spent, or nil.
local function spent(at)
  local runtime, tokens = field('max_runtime_s'), field('max_tokens')
  local ran = amount('runtime_s')
  if status == 'running' then ran = ran + tonumber(at) - amount('claimed_at') end
  if tokens ~= '' and amount('trained_tokens') >= tonumber(tokens) then
    return 'it has trained ' .. field('trained_tokens') .. ' tokens, max_tokens is ' .. tokens
  end
  if runtime ~= '' and ran >= tonumber(runtime) then
    return 'it has run ' .. string.format('%.0f', ran) .. ' s, max_runtime_s is ' .. runtime
  end
  return exhausted(field('tenant'))
end

local function pause_if_spent(at)
  local why = spent(at)
  if why and field('request') == '' then ask('pause', at, 'warn', 'Job is paused: ' .. why .. '.') end
end

-- Take a running job from its runner: queued again, or what the runner was asked for, or
-- failed when it was started too often in vain. A blameless claim is no attempt.
local function give_back(at, ran, why, delay, blameless)
  local asked, attempts = field('request'), amount('attempts')
  if asked == 'cancel' then
    become('cancelled', at, ran)
    tell(at, 'info', 'Job cancelled.', {kind = 'status', status = status})
    return
  end
  if asked == 'pause' then
    become('paused', at, ran)
    redis.call('HSET', job, 'attempts', 0)
    tell(at, 'info', 'Job paused.', {kind = 'status', status = status})
    return
  end
  if blameless then
    redis.call('HSET', job, 'attempts', math.max(0, attempts - 1))
  elseif attempts >= ATTEMPTS then
    local failure = {code = 'no_progress', param = cjson.null, message = 'it was started ' ..
      attempts .. ' times without finishing a step; the last time: ' .. why}
    redis.call('HSET', job, 'error', cjson.encode(failure))
    become('failed', at, ran)
    tell(at, 'error', 'Job failed: ' .. failure.message,
      {kind = 'status', status = status, error = failure})
    return
  end
  become('queued', at, ran)
  if delay > 0 then
    redis.call('HSET', job, 'not_before', string.format('%.6f', tonumber(at) + delay))
  end
  tell(at, blameless and 'info' or 'warn', 'Job queued again: ' .. why .. '.',
    {kind = 'status', status = status})
end

local function done(...)
  local reply = {'done', ...}
  redis.call('SET', P .. 'nonce:' .. nonce, cjson.encode(reply), 'EX', NONCE_SECONDS)
  return reply
end
"""
)

CHANGE = (
    SHARED
    + """
local answered = redis.call('GET', P .. 'nonce:' .. nonce)
if answered then return cjson.decode(answered) end
if not status or (ARGV[3] ~= '' and ARGV[3] ~= field('tenant')) then return {'missing'} end
if ARGV[4] ~= '' and ARGV[4] ~= field('revision') then return {'stale', field('revision')} end
if ARGV[5] ~= '' and (ARGV[5] ~= field('token') or not (status == 'running' or ended())) then
  return {'fenced', field('token')}
end
"""
)
