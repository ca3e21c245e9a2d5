"""Keys and what they protect: sealing, the fragment chain, custody, replay state, device registries.

`wire` says which bytes are covered; this room holds keys and computes. No sockets and no clock: time is
passed in. `security.trust` is policy, apart from the cryptography.
"""
