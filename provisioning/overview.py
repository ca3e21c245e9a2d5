"""What is known of a site's devices: fleet entries, registries and the running gateway put together."""

from dataclasses import asdict
from typing import Any

from provisioning import entries
from provisioning.errors import GatewayAwayError, UnknownDeviceError
from provisioning.site_file import SiteFile
from provisioning.sites import open_site
from provisioning.watch import Gateway


def overview(site: SiteFile) -> dict[str, Any]:
    """Every device of a site.

    Returns:
        {"site", "gateway": EUI-64, "answers": whether the running gateway was asked, "devices": [...]}; each
        device as its fleet entry, with `enrolled`, `revoked`, `epochs`, and, where the gateway answers,
        `messages` and `last_heard_s`.
    """
    with open_site(site, create=False) as opened:
        registry = opened.gateway
    heard, answers = _heard(site)
    known = {entry.eui64: entry for entry in entries.read_all(site.directory)}
    devices = []
    for eui in sorted({*known, *(eui.hex() for eui in registry.devices)}):
        device = registry.devices.get(bytes.fromhex(eui))
        entry = known.get(eui)
        row: dict[str, Any] = {
            "eui64": eui,
            "name": "" if device is None else device.name,
            "state": "unknown",
        }
        if entry is not None:
            row.update({key: value for key, value in asdict(entry).items() if value != "" or key not in row})
        row["enrolled"] = device is not None
        row["revoked"] = device is not None and device.revoked
        row["epochs"] = [] if device is None else sorted(device.epochs)
        if answers:
            live = heard.get(eui, {})
            row["messages"] = live.get("messages", 0)
            row["last_heard_s"] = live.get("last_heard_s")
        devices.append(row)
    return {
        "site": site.site,
        "gateway": registry.gateway.hex(),
        "answers": answers,
        "devices": devices,
    }


def device(site: SiteFile, wanted: str) -> dict[str, Any]:
    """One device by its EUI-64 (with or without colons) or its name. Raises UnknownDeviceError."""
    plain = wanted.replace(":", "").lower()
    devices: list[dict[str, Any]] = overview(site)["devices"]
    found = [each for each in devices if plain == each["eui64"] or wanted == each["name"]]
    if len(found) != 1:
        raise UnknownDeviceError(wanted, site.site, len(found))
    return found[0]


def _heard(site: SiteFile) -> tuple[dict[str, Any], bool]:
    try:
        answer = Gateway(site.admin_sockets()).devices()
    except GatewayAwayError:
        return {}, False
    return {each["device"]: each for each in answer}, True
