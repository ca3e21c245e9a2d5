"""Provisioning: put firmware, model and identity on boards, and enrol them in a site's registries.

- `identity`: a new device's identity, and the registries; `device_files`: what lies on the device; `eui64`:
  its address, typed or from the board's number;
- `vault`: the encrypted fleet vault; `secret`: its passphrase or key file. A site that has one (`has_vault`)
  is opened with a secret and otherwise used the same way:

      secret = secret.find(key=..., file=..., stdin=...) if has_vault(directory) else None
      with Site.open(directory, name=..., secret=secret) as site:
          settings = site.new_identity(eui, options)  # refuses a revoked device
          site.enrol(settings, name)                  # both registries, signed, under one new version

  Hold a site briefly: it locks out other writers. A `Secret` remembers the key it derived, so keep it;
- `up`: from a bare port to a verified fleet entry; `site_file` and `profiles`: the site and the kinds of
  board, as data; `sites`: a site opened as its file says; `entries` and `overview`: the
  fleet; `many`: several boards at once;
- `board`: one MicroPython board through mpremote; `access`: serial ports; `payload`: the files it gets;
  `tls_files`: its certificate; `images` and `flashing`: MicroPython itself; `watch`: what the gateway says;
  `doctor`: what is wrong;
- `emulated`: a board that is a pseudo-terminal, a littlefs image and a real MicroPython; `cli`: `slimwire
  provision`, with `boards_cli`, `fleet_cli` and `linux`.
"""
