"""A gateway without a lock, to show what the chain is for: its verifier accepts every fragment.

No setting and no option of `slimwire gateway` leads here; the verifier is a constructor's argument, and this
is the one place that passes another than `security.chain.KeyedChain`.

Run it with `python -m lab.attacks.pass_through '<gateway settings as JSON>'`.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from gateway import process, settings
from slimwire import log
from slimwire.errors import SlimwireError
from wire.message import FirstSlice


class PassThrough:
    """A `security.chain.ChainVerifier` that verifies nothing."""

    def verify_first(
        self,
        k_frag: bytes,
        addresses: tuple[bytes, bytes],
        ports: tuple[int, int],
        payload_length: int,
        first: FirstSlice,
    ) -> bool:
        """Every first slice is right."""
        return True

    def verify_slice(self, k_frag: bytes, device_eui: bytes, first: FirstSlice, i: int, data: bytes) -> bool:
        """Every other slice is right, if it has the place and length that the manifest names."""
        if not 1 <= i <= first.n or first.cut_problem:
            return False
        return len(data) == first.slice_at(i)[1]


def main() -> None:
    """`python -m lab.attacks.pass_through SETTINGS`: the fields are those of `gateway.settings.Settings`."""
    log.configure()
    try:
        given: dict[str, Any] = json.loads(sys.argv[1])
        for name in ("registry", "admin", "state"):
            if name in given:
                given[name] = Path(given[name])
        asyncio.run(process.run(settings.load(None, **given), verifier=PassThrough()))
    except (SlimwireError, ValueError) as error:
        sys.exit(f"gateway: {error}")


if __name__ == "__main__":
    main()
