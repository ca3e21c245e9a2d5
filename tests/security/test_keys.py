"""Key derivation, and secrets that stay out of sight."""

import hashlib
import hmac
import logging
from typing import Any

import pytest

from security import keys
from security.keys import EdgeKeys, GatewayKeys
from tests.vectors.registry import case_name, claim

ROOT = bytes(range(32))
DEVICE = bytes.fromhex("0200000000000001")


@pytest.mark.parametrize("case", claim("keys.json", "security"), ids=case_name)
def test_vectors(case: dict[str, Any]) -> None:
    root, device = bytes.fromhex(case["root"]), bytes.fromhex(case["device"])
    gateway = keys.derive_gateway(root, device, case["epoch"], case["site"])
    edge = keys.derive_edge(root, device, case["epoch"])
    assert gateway == GatewayKeys(bytes.fromhex(case["frag_up"]), bytes.fromhex(case["frag_dn"]))
    assert edge == EdgeKeys(*(bytes.fromhex(case[name]) for name in ("msg_up", "msg_dn", "salt")))


def test_derivation_is_hkdf_of_the_written_info() -> None:
    """HKDF by its definition (RFC 5869): one block of HMAC is all that 32 bytes need."""
    pseudo_random_key = hmac.digest(bytes(32), ROOT, hashlib.sha256)
    written = b"slimwire/1\0frag up\0" + DEVICE + b"\0\0\1\2" + "Übung".encode()
    expected = hmac.digest(pseudo_random_key, written + b"\1", hashlib.sha256)
    assert keys.derive_gateway(ROOT, DEVICE, 258, "Übung").frag_up == expected
    written = b"slimwire/1\0msg dn\0" + DEVICE + b"\0\0\1\2"
    expected = hmac.digest(pseudo_random_key, written + b"\1", hashlib.sha256)[:16]
    assert keys.derive_edge(ROOT, DEVICE, 258).msg_dn == expected


def test_no_two_keys_are_equal() -> None:
    """Over two roots, devices, epochs and sites, and all labels."""
    found = []
    for root in (ROOT, keys.new_root()):
        for device in (DEVICE, bytes(8)):
            for epoch in (0, 4):
                edge = keys.derive_edge(root, device, epoch)
                found += [edge.msg_up, edge.msg_dn, edge.salt]
                for site in ("a", "b"):
                    gateway = keys.derive_gateway(root, device, epoch, site)
                    found += [gateway.frag_up, gateway.frag_dn]
    assert len({key[:16] for key in found}) == len(found)


def test_roots_are_fresh() -> None:
    roots = {keys.new_root() for _ in range(10)}
    assert len(roots) == 10
    assert {len(root) for root in roots} == {32}


def test_secrets_never_show(caplog: pytest.LogCaptureFixture) -> None:
    gateway, edge = keys.derive_gateway(ROOT, DEVICE, 0, "demo"), keys.derive_edge(ROOT, DEVICE, 0)
    with caplog.at_level(logging.INFO):
        logging.getLogger("test").info("%s %r %s %r", gateway, gateway, edge, edge)
    for secret in (gateway.frag_up, gateway.frag_dn, edge.msg_up, edge.msg_dn, edge.salt):
        assert secret.hex() not in caplog.text
        assert repr(secret)[2:-1] not in caplog.text


def test_keys_of_the_wrong_length_are_refused_without_showing_them() -> None:
    with pytest.raises(ValueError, match="frag_up has 31 bytes, expected 32") as caught:
        GatewayKeys(b"\x5a" * 31, bytes(32))
    assert "ZZ" not in str(caught.value)
    with pytest.raises(ValueError, match="msg_dn has 15 bytes"):
        EdgeKeys(bytes(16), bytes(15), bytes(32))
    with pytest.raises(ValueError, match="root secret has 16 bytes"):
        keys.derive_edge(bytes(16), DEVICE, 0)
    with pytest.raises(ValueError, match="EUI-64 has 2 bytes"):
        keys.derive_edge(ROOT, DEVICE[:2], 0)
