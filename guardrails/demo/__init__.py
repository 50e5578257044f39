"""The demo workspace: three calendar months of a support product's believable traffic, booked through the real stream and writer.

`story` says who and what, `traffic` when (pure, from a seed), `past` turns planned calls into the money Redis' events, `build` makes the
workspace around them. `manage.py demo` runs it; `make demo` starts everything around that. Never in production.
"""
