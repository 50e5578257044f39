-- Rate limits: checked first, taken when everything else has agreed too.
-- How many calls run at the same time, by key.
local running = {}

local function running_of(key)
  local busy = running[key]
  if not busy then
    busy = call('ZCARD', key)
    if busy > 0 then  -- those whose lease has ended do not count, and leave
      busy = busy - call('ZREMRANGEBYSCORE', key, '-inf', int(now))
    end
    running[key] = busy
  end
  return busy
end

-- Of an each-value limit only so many values that are not known come to a state of their own in one window: the others share one. A state lives
-- for a window or little more, so that two or three times as many exist at most, whatever names callers make up.
local function newcomer(base, rate)
  local other = 'cdcb145e716f6dde474a1b2816a1c498'  -- the digest of "__other__"
  local stem = string.match(rate[1], '^(.*:)[^:]+$')
  local family = stem .. int(math.floor(now_us / rate[4]))
  if tonumber(call('GET', base .. 'c:' .. family) or 0) < rate[8] then return family end
  rate[1] = stem .. other
  return nil
end

-- GCRA, of each rate: nothing written; the theoretical arrival time after this call, or how long to wait (-1: can never fit).
local function check_rates(base, rates, plan)
  local taken, left = plan.rates, plan.rate_left
  for i, rate in ipairs(rates) do
    local limit = rate[3]
    if rate[2] == 'c' then
      local busy = running_of(base .. rate[1])
      if busy >= limit then return { 'LIMITED', i, 1000 } end
      taken[#taken + 1] = { rate[1], 'c' }
      left[i] = { limit - busy - 1, 0 }
    else
      local arrival = arrival_of(base .. rate[1])
      if not arrival.at and rate[8] and rate[8] > 0 then
        rate.family = newcomer(base, rate)
        arrival = arrival_of(base .. rate[1])
      end
      local interval, burst, cost = rate[4] / limit, rate[5], rate[6]
      local after = math.max(math.min(arrival.at or 0, now_us + interval * burst), now_us) + interval * cost
      local over = after - now_us - interval * burst
      if over > interval * 0.01 then return { 'LIMITED', i, cost > burst and -1 or math.ceil(over / 1000) } end
      if rate[7] == 1 then taken[#taken + 1] = { rate[1], 'g', interval, cost, 1 } end  -- its end corrects it
      plan.arrivals[i] = arrival
      rate.after = after
      left[i] = { math.max(0, math.floor(burst - (after - now_us) / interval + 0.01)), math.ceil((after - now_us) / 1000) }
    end
  end
end

-- Remember a GCRA limit's next theoretical arrival, until it says nothing any more.
local function take_rate(base, rate, arrival)
  arrival.at, arrival.px = rate.after, math.ceil((rate.after - now_us + rate[4]) / 1000)
  if rate.family then
    call('INCR', base .. 'c:' .. rate.family)
    call('PEXPIRE', base .. 'c:' .. rate.family, int(rate[4] / 500))
  end
end
