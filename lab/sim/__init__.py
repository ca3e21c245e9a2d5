"""The emulated radio.

`trace` (how fast the channel is when), `loss` (what gets lost), `medium` (the shared channel), `air` (the
process).
"""
