"""How frames leave and reach the device. A link's module, named as its `type` in device.json, has

- `open_link(settings, longest)`: the link that the settings (`firmware.config`) name; longest: bytes of the
  longest message's UDP payload. SettingsError where they do not fit.

A link has

- `eui64`: the device's address on it; `mtu`: bytes a frame may have, without FCS; `gap_ms`: pause between
  two frames of a message (RFC 8930: give a forwarder time to pass one on before the next comes);
- `async send(frame)`: hand one frame over; one that the air loses raises nothing, the agent retries messages;
- `async recv() -> frame`: the next frame, without its FCS; what is no frame is counted with
  `reject(reason)`, an attribute that the agent sets; where the link does not work, both raise OSError: the
  agent counts it, waits, and goes on;
- `frame`, if it has one: where frames for it are to be made;
- `close()`.

`firmware.setup` opens the one that the settings name, and imports no other.
"""
