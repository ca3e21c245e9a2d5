"""HMAC-SHA256 as the standard library has it."""

import hmac

from hypothesis import given
from hypothesis import strategies as st

from security.mac import hmac_sha256


@given(st.binary(max_size=64), st.binary(max_size=300))
def test_it_is_the_standard_hmac(key: bytes, data: bytes) -> None:
    expected = hmac.digest(key, data, "sha256")
    assert hmac_sha256(key, data) == expected
    assert hmac_sha256(key, data) == expected  # from the states that the first call left
