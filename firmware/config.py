"""The settings of a device: `device.json`, written at enrolment.

    {"format": 1, "eui64": "0200000000000001", "epoch": 0, "site": "lab", "gateway": "02000000000000ff",
     "root": "<64 hex digits>",
     "link": {"type": "zep", "host": "127.0.0.1", "port": 17754, "bind": 0, "channel": 26, "pan": "0x23f0"},
     "source": {"type": "file", "path": "camera.bin", "order": "order.bin"},   # others: docs/sources.md
     "period_ms": 300, "deadline_ms": 1000, "retries": 2, "log": "log.jsonl", "head": "auto",
     "wifi": {"ssid": "...", "key": "..."}}

`log`, `source.order` and `wifi` may be missing; so may `period_ms` (300), `deadline_ms` (1000, how long to
wait for an answer before the first retry), `retries` (2), `link.bind` (0: any port), `link.gap_ms` (2,
pause between two frames), `recovery` ("off"; "always" sends each message of several frames in recoverable
fragments, RFC 8931, and "lossy" does so while messages get lost), `head` ("auto"; "ram" keeps head.bin in
memory, "flash" reads it while it runs), `custody` ("forget": the gateway's custody ack ends a message's
retries; "keep-until-answer": only its answer does, which the gateway gets for it again).

A Wi-Fi device has `"link": {"type": "mqtt", "host": "192.168.1.2"}`, and there may be `port` (1883) and
`password` (none; the user name is the EUI-64), and `tls` (false; true: with the files that
`firmware.links.tls` names).

A device that reaches a gateway's dongle by ESP-NOW has `"link": {"type": "espnow", "dongle": "a0b1c2d3e4f5",
"channel": 6}`: the dongle's MAC address and the Wi-Fi channel it listens on.

A device with a radio co-processor on a serial line has `"link": {"type": "uart"}`, and there may be `uart`
(1, its number on the board) and `baud` (115200), or on Linux `path`.

Used at start; then this module is dropped.
"""

import json
from binascii import unhexlify

from .errors import refuse

FORMAT = 1


def load(path):
    """The settings of the file, checked, with ids and root as bytes. Raises SettingsError."""
    try:
        with open(path) as file:
            text = file.read()
    except OSError:
        refuse("there is no " + path, "the device's settings", "enrol the device")
    try:
        settings = json.loads(text)
    except ValueError:
        refuse(path + " is no JSON", "the file that enrolment wrote", "enrol the device anew")
    return check(settings, path)


def check(settings, path="device.json"):
    """Settings as JSON gives them to settings as the agent uses them; SettingsError names the field."""
    top = Section(settings, path)
    if top.get("format") != FORMAT:
        refuse(
            "%s has format %s" % (path, top.get("format")),
            "format %d" % FORMAT,
            "use the firmware that belongs to it, or enrol the device anew",
        )
    link = Section(top.get("link"), path + " link")
    kind = link.choice("type", ("zep", "mqtt", "espnow", "uart"))
    mqtt, espnow, uart = kind == "mqtt", kind == "espnow", kind == "uart"
    source = Section(top.get("source"), path + " source")
    if source.text("type") == "file":
        source.text("path")
        source.text("order", "")
    out = {
        "eui64": top.hex("eui64", 8),
        "gateway": top.hex("gateway", 8),
        "root": top.hex("root", 32),
        "epoch": top.number("epoch", 0, 0xFFFFFFFF),
        "site": top.text("site"),
        "period_ms": top.number("period_ms", 1, 3600000, 300),
        "deadline_ms": top.number("deadline_ms", 10, 60000, 1000),
        # 16 more: retries go on after custody.
        "retries": top.number("retries", 0, 15, 2)
        + 16 * (top.choice("custody", ("forget", "keep-until-answer"), "forget") != "forget"),
        "log": top.text("log", ""),
        "recovery": "off" if mqtt else top.choice("recovery", ("off", "lossy", "always"), "off"),
        "head": top.choice("head", ("ram", "flash", "auto"), "auto"),
        "link": {
            "host": link.text("host", "" if espnow or uart else None),
            "uart": link.number("uart", 0, 15, 1) if uart else 0,
            "baud": link.number("baud", 1200, 4000000, 115200),
            "path": link.text("path", ""),
            "dongle": link.hex("dongle", 6) if espnow else b"",
            "port": link.number("port", 1, 65535, 1883 if mqtt else 17754),
            "type": link.get("type"),
            "password": link.text("password", ""),
            "tls": path[: path.rfind("/") + 1] or "./" if mqtt and link.get("tls") else "",
            "bind": link.number("bind", 0, 65535, 0),
            "channel": link.number("channel", 1, 14) if espnow else link.number("channel", 0, 255, 26),
            "pan": link.number("pan", 0, 0xFFFE, 0x23F0),
            "gap_ms": link.number("gap_ms", 0, 1000, 2),
        },
        "source": dict({"order": ""}, **settings["source"]),
    }
    if out["eui64"] == out["gateway"]:
        refuse(path + " has one EUI-64 for device and gateway", "two", "enrol the device anew")
    out["wifi"] = None
    if "wifi" in settings:
        wifi = Section(settings["wifi"], path + " wifi")
        out["wifi"] = {"ssid": wifi.text("ssid"), "key": wifi.text("key")}
    return out


class Section:
    """One object of device.json; SettingsError names what is wrong in it. name: how to call it there."""

    def __init__(self, values, name):
        if not isinstance(values, dict):
            refuse(name + " is missing or no object", "an object", "see firmware/config.py")
        self._values = values
        self._name = name

    def get(self, key):
        return self._values.get(key)

    def _refuse(self, key, value, expected):
        shown = "a secret" if key in ("root", "key", "password") else repr(value)
        if value is None:
            shown = "missing"
        refuse(
            "%s: %s is %s" % (self._name, key, shown),
            expected,
            "correct device.json, or enrol the device anew",
        )

    def hex(self, key, length):
        value = self.get(key)
        try:
            if len(value) == 2 * length:
                return unhexlify(value)
        except (TypeError, ValueError):
            pass
        self._refuse(key, value, "%d hex digits" % (2 * length))

    def number(self, key, least, most, default=None):
        value = self._values.get(key, default)
        if isinstance(value, str) and value[:2] == "0x":
            try:
                value = int(value[2:], 16)
            except ValueError:
                pass
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self._refuse(key, value, "a number from %d to %d" % (least, most))
        return value

    def text(self, key, default=None):
        value = self._values.get(key, default)
        if not isinstance(value, str) or (not value and default is None):
            self._refuse(key, value, "text")
        return value

    def choice(self, key, choices, default=None):
        value = self._values.get(key, default)
        if value not in choices:
            self._refuse(key, value, "one of " + ", ".join([str(one) for one in choices]))
        return value
