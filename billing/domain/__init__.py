"""How much: money, usage, price book and attribution as pure values. No Django, no clock, no I/O."""
