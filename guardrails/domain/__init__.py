"""May it: budgets, periods, rates and refusals as pure values. No Django, no clock, no I/O."""
