"""What of a bill bought nothing, sorted by its cause. Pure: calls as plain values in, dollars by category out.

Each call's waste stands in one category at most. The order in which the causes are asked is `values.PRECEDENCE`: what failed cannot also be a
duplicate, what a loop asked is not offered a cheaper model, and so on; a sum over categories never counts a dollar twice.
"""
