"""What a person sees of workspaces. Views are thin: parse, call one action or query, render plain values.

`frame` holds what every page under `/w/<slug>/` shares; billing and guardrails use it for their pages too.
"""
