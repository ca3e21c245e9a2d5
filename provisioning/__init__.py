"""Provisioning: put firmware, model and identity on boards, and enrol them in a site's registries.

- `identity`: a new device's identity, registries and device directory; `eui64`: its address from the board's
  number;
- `vault`: the encrypted fleet vault; `secret`: its passphrase or key file. A site that has one (`has_vault`)
  is opened with a secret and otherwise used the same way:

      secret = secret.find(key=..., file=..., stdin=...) if has_vault(directory) else None
      with Site.open(directory, name=..., secret=secret) as site:
          settings = site.new_identity(eui, options)  # refuses a revoked device
          site.enrol(settings, name)                  # both registries, signed, under one new version

  Hold a site briefly: it locks out other writers. A `Secret` remembers the key it derived, so keep it;
- `board`: one MicroPython board through mpremote; `payload`: the files it gets; `install`: the whole of it,
  verified;
- `emulated`: a board that is a pseudo-terminal, a littlefs image and a real MicroPython; `cli`: `slimwire
  provision`.
"""
