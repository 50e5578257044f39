-- Rate limits: checked first, taken when everything else has agreed too.
-- How many calls run at the same time, by key.
local running = {}

local function running_of(key)
  if not running[key] then running[key] = redis.call('ZCOUNT', key, '(' .. int(now), '+inf') end
  return running[key]
end

-- GCRA: nothing written; the theoretical arrival time after this call, or how long to wait (-1: can never fit).
local function gcra(key, interval, burst, cost)
  local arrival = math.min(arrival_of(key).at or 0, now_us + interval * burst)
  local after = math.max(arrival, now_us) + interval * cost
  local over = after - now_us - interval * burst
  if over <= interval * 0.01 then return after, nil end
  if cost > burst then return after, -1 end
  return after, math.ceil(over / 1000)
end

-- Of an each-value limit only so many values that are not known come to a state of their own in one window: the others share one. A state lives
-- for a window or little more, so that two or three times as many exist at most, whatever names callers make up.
local OTHER = 'cdcb145e716f6dde474a1b2816a1c498'  -- the digest of "__other__"

local function newcomer(base, rate)
  if not rate[8] or rate[8] == 0 or arrival_of(base .. rate[1]).at then return nil end
  local stem = string.match(rate[1], '^(.*:)[^:]+$')
  local family = stem .. int(math.floor(now_us / rate[4]))
  if tonumber(redis.call('GET', base .. 'c:' .. family) or 0) < rate[8] then return family end
  rate[1] = stem .. OTHER
  return nil
end

local function check_rates(base, rates, plan)
  for i, rate in ipairs(rates) do
    local key, limit = base .. rate[1], rate[3]
    if rate[2] == 'c' then
      local busy = running_of(key)
      if busy >= limit then return { 'LIMITED', i, 1000 } end
      plan.rates[i] = { rate[1], 'c' }
      plan.rate_left[i] = { limit - busy - 1, 0 }
    else
      local interval = rate[4] / limit
      rate.family = newcomer(base, rate)
      key = base .. rate[1]
      local after, wait = gcra(key, interval, rate[5], rate[6])
      if wait then return { 'LIMITED', i, wait } end
      plan.rates[i] = { rate[1], 'g', interval, rate[6], rate[7] }
      plan.arrivals[i] = after
      plan.rate_left[i] = { math.max(0, math.floor(rate[5] - (after - now_us) / interval + 0.01)), math.ceil((after - now_us) / 1000) }
    end
  end
end

-- Remember a GCRA limit's next theoretical arrival, until it says nothing any more.
local function take_rate(base, rate, arrival)
  local known = arrival_of(base .. rate[1])
  known.at, known.px = arrival, math.ceil((arrival - now_us + rate[4]) / 1000)
  if rate.family then
    redis.call('INCR', base .. 'c:' .. rate.family)
    redis.call('PEXPIRE', base .. 'c:' .. rate.family, int(rate[4] / 500))
  end
end
