"""What a command prints: one JSON object on stdout with `--json`, everything a person reads on stderr."""

import json
import sys
from typing import Any

from rich.console import Console

#: For people: progress, tables while JSON goes to stdout, warnings.
stderr = Console(stderr=True)
#: For results that people read when there is no `--json`.
stdout = Console()


def print_json(value: Any) -> None:
    """Write one JSON value as one line to stdout. NaN and infinities are refused (ValueError)."""
    sys.stdout.write(json.dumps(value, allow_nan=False) + "\n")
    sys.stdout.flush()
