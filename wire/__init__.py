"""Bytes to values and back: every format that leaves a machine, one module each, and nothing else.

No sockets, no clock, no files, no keys. Each format has one checked way in for bytes from outside, which
raises `wire.errors.WireError` with a stable reason. From outside in: `pcap`, `zep`, `ieee802154`, `lowpan`
(`frag`, `iphc`), `message`, then `latent` (with `rans`) and `reply`; `batch` goes between the services.
"""
