"""How frames leave and reach the device. A link has

- `eui64`: the device's address on it; `mtu`: bytes a frame may have, without FCS; `gap_ms`: pause between two frames
  of a message (RFC 8930: give a forwarder time to pass one on before the next comes);
- `open()`: OSError where the link is not there;
- `async send(frame)`: hand one frame over; a link that loses it raises nothing, the agent retries messages;
- `async recv() -> frame`: the next frame, without its FCS; what is no frame is counted with `reject(reason)`, an attribute
  that the agent sets;
- `close()`.
"""


def create(settings, eui64):
    """The link that the settings' `link` section names, not open yet."""
    from .zep import ZepLink  # the only type so far; settings are checked in firmware.config

    return ZepLink(
        settings["host"],
        settings["port"],
        eui64,
        bind=settings["bind"],
        channel=settings["channel"],
        gap_ms=settings["gap_ms"],
    )
