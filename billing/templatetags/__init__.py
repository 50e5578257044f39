"""Template tags of all pages: one library, `{% load sluice %}`."""
