"""Provisioning: put firmware, model and identity on boards, and enrol them in a site's registries.

- `identity`: a new device's identity, registries and device directory; `eui64`: its address from the board's
  number;
- `board`: one MicroPython board through mpremote; `payload`: the files it gets; `install`: the whole of it,
  verified;
- `emulated`: a board that is a pseudo-terminal, a littlefs image and a real MicroPython; `cli`: `slimwire
  provision`.
"""
