"""The short form of the fuzzing: the committed corpus and seeded mutations of it, through every parser."""

import gc
import subprocess
import sys
import tracemalloc
from itertools import islice
from pathlib import Path

import pytest

from tests.fuzz.mutator import mutations
from tests.fuzz.targets import CORPUS, TARGETS, Target
from tests.fuzz.watch import Figures, FindingError, Watch

MUTATIONS = 400
#: What a pass over the same inputs may keep, in bytes, once one has been made: nothing but what it counts.
MOST_KEPT = 16_384


def inputs(target: Target) -> list[bytes]:
    corpus = target.corpus
    return [*corpus, *islice(mutations(corpus, seed=1, longest=target.longest), MUTATIONS)]


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_breaks_a_promise_and_none_stays_in_memory(name: str) -> None:
    target = TARGETS[name]
    feed = target.open()
    data = inputs(target)
    watch = Watch(Figures(name, "mutator", 1), feed, 2 * len(data), check_rss=False)
    for one in data * 2:
        watch.run(one)
    assert watch.finish().accepted > 2 * MUTATIONS / 100  # most of the parser was behind its first check
    gc.collect()
    tracemalloc.start()
    try:
        for one in data:
            feed(one)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        for one in data:
            feed(one)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < MOST_KEPT


def test_every_target_has_a_corpus_and_every_corpus_a_target() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    assert all(target.corpus for target in TARGETS.values())


@pytest.mark.parametrize("name", TARGETS)
def test_the_parser_accepts_part_of_its_corpus(name: str) -> None:
    target = TARGETS[name]
    feed = target.open()
    assert any(feed(data) for data in target.corpus)


def test_mutations_are_the_same_for_the_same_seed() -> None:
    corpus = TARGETS["dissect"].corpus
    first, again, other = (list(islice(mutations(corpus, seed, 100), 50)) for seed in (1, 1, 2))
    assert first == again != other
    assert max(map(len, first)) <= 100


def _leaking() -> object:
    kept: list[list[int]] = []
    return lambda data: kept.append([1, 2, 3]) is None


def _raising(data: bytes) -> bool:
    return data[1000] == 0


def test_the_watch_finds_an_exception_and_names_its_input() -> None:
    watch = Watch(Figures("t", "mutator", 3), _raising, 10, check_rss=False)
    with pytest.raises(FindingError, match=r"(?s)t: input 0 \(seed 3\) 6869\n.*IndexError"):
        watch.run(b"hi")


def test_the_watch_finds_memory_that_grows() -> None:
    feed = _leaking()
    watch = Watch(Figures("t", "mutator", 1), feed, 8000, check_rss=False)
    for _ in range(8000):
        watch.run(b"")
    with pytest.raises(FindingError, match="t: memory grew by"):
        watch.finish()


def test_the_long_form_says_what_it_lacks_and_runs_all_the_same() -> None:
    without = (
        "import runpy, sys; sys.modules['atheris'] = None;"
        "sys.argv = ['fuzz', '--target', 'zep', '--runs', '50'];"
        "runpy.run_module('tests.fuzz', run_name='__main__')"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", without], capture_output=True, text=True, timeout=120, cwd=root
    )
    assert done.returncode == 0
    assert "atheris is not installed (pip install 'slimwire[fuzz]'" in done.stderr
    assert '"target": "zep", "engine": "mutator", "seed": 1, "runs": 50' in done.stdout


def test_the_long_form_runs_a_target_and_prints_its_figures() -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.fuzz", "--target", "frag", "--runs", "500", "--engine", "mutator"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=root)
    assert (done.returncode, done.stderr) == (0, "")
    assert '{"target": "frag", "engine": "mutator", "seed": 1, "runs": 500' in done.stdout
