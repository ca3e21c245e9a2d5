"""Attacks on a running Slimwire.

`forge` makes the frames, `inject` is the attacker's process, `pass_through` the gateway without a lock.
"""
