"""Every vector file binds the implementations it must bind."""

import pytest

from tests.vectors.registry import REQUIRED, VECTORS, claimed

PAIRS = sorted((file, name) for file, names in REQUIRED.items() for name in names)


@pytest.mark.parametrize(("vector_file", "implementation"), PAIRS)
def test_a_test_holds_the_implementation_to_the_vectors(vector_file: str, implementation: str) -> None:
    assert (vector_file, implementation) in claimed(), f"{implementation} is not tested against {vector_file}"


def test_every_vector_file_is_required_of_somebody() -> None:
    assert {path.name for path in VECTORS.glob("*.json")} == set(REQUIRED)
