"""The long form: `python -m tests.fuzz --target all --runs 1000000`.

With atheris (extra `fuzz`) inputs are searched by coverage, one process a target; without it they are seeded
mutations of the corpus. One line of JSON a target; the exit code is 1 if one broke a promise.
"""

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

NAMES = sorted(path.name for path in (Path(__file__).parent / "corpus").iterdir())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--target", choices=["all", *NAMES], default="all")
    parser.add_argument("--runs", type=int, default=1_000_000, help="inputs per target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", choices=["auto", "atheris", "mutator"], default="auto")
    options = parser.parse_args()
    engine = options.engine
    if engine == "auto":
        engine = "atheris" if importlib.util.find_spec("atheris") else "mutator"
        if engine == "mutator":
            print(
                "fuzz: atheris is not installed (pip install 'slimwire[fuzz]'; it has wheels for CPython on"
                " Linux): seeded mutations instead of a search by coverage",
                file=sys.stderr,
            )
    if options.target == "all":
        # A process each: what one target keeps is not counted against another.
        failed = 0
        for name in NAMES:
            again = ["--target", name, "--runs", str(options.runs), "--seed", str(options.seed)]
            command = [sys.executable, "-m", "tests.fuzz", *again, "--engine", engine]
            failed += subprocess.run(command, check=False).returncode != 0
        return int(failed > 0)
    run = _atheris if engine == "atheris" else _mutator
    return run(options.target, options.runs, options.seed)


def _mutator(name: str, runs: int, seed: int) -> int:
    from itertools import chain, islice

    from tests.fuzz.mutator import mutations
    from tests.fuzz.targets import TARGETS
    from tests.fuzz.watch import Figures, FindingError, Watch

    target = TARGETS[name]
    watch = Watch(Figures(name, "mutator", seed), target.open(), runs, check_rss=True)
    corpus = target.corpus
    try:
        for data in islice(chain(corpus, mutations(corpus, seed, target.longest)), runs):
            watch.run(data)
        figures = watch.finish()
    except FindingError as finding:
        print(finding, file=sys.stderr)
        return 1
    print(json.dumps(figures.as_json()), flush=True)
    return 0


def _atheris(name: str, runs: int, seed: int) -> NoReturn:
    import atheris

    with atheris.instrument_imports(include=["wire", "models", "gateway", "security"]):
        from tests.fuzz.targets import CORPUS, TARGETS
    from tests.fuzz.watch import Figures, FindingError, Watch

    target = TARGETS[name]
    figures = Figures(name, "atheris", seed)
    watch = Watch(figures, target.open(), runs, check_rss=False, check_blocks=not target.arrays)

    def one(data: bytes) -> None:
        try:
            watch.run(data)
            if watch.figures.runs < runs:
                return
            print(json.dumps(watch.finish().as_json()), flush=True)
            failed = 0
        except FindingError as finding:
            print(finding, file=sys.stderr, flush=True)
            failed = 1
        # libFuzzer has no way back from here: it ends the process itself, or not at all.
        shutil.rmtree(found)
        os._exit(failed)

    # New inputs go to the first folder, and the committed ones are only read.
    found = tempfile.mkdtemp()
    arguments = [
        "fuzz", found, str(CORPUS / name), f"-seed={seed}", f"-max_len={target.longest}", "-runs=-1",
        "-verbosity=0", "-rss_limit_mb=0",
    ]  # fmt: skip
    atheris.Setup(arguments, one)
    atheris.Fuzz()
    raise AssertionError("atheris returned before the last input")


if __name__ == "__main__":
    sys.exit(main())
