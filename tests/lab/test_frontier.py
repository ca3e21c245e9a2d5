"""The frontier: curves, costs and paired differences are what they are said to be, with records made up so
that the answer is known.
"""

import dataclasses
import io
import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from lab.cli import app
from lab.experiments.frontier import compare, energy, goals, report, rows
from lab.experiments.frontier.compare import Table
from lab.experiments.frontier.curve import accuracy_at, bytes_at
from lab.experiments.frontier.resample import Draws
from lab.experiments.width.requests import frame_lengths
from models import records
from models.bundle import Bundle
from models.data_files import DataSet
from models.evaluate import frames
from models.records import Record
from models.tflite_macs import macs
from slimwire.errors import SlimwireError

N = 512


def record(row, kind, right, coded, setting="", **facts) -> Record:
    plain = dict.fromkeys(
        ("device_macs", "server_macs", "params", "flash_bytes", "seed", "epochs", "images_seen")
    )
    coded = np.full(len(right), coded) if np.isscalar(coded) else coded
    return Record(
        row, kind, facts.pop("label", ""), setting, **{**plain, **facts}, command="", right=right, coded=coded
    )


@pytest.fixture(scope="module")
def ours() -> rows.Ours:
    bundle = Bundle.load("fashion-mnist")
    return rows.measure(bundle, DataSet("fashion-mnist", "official", *bundle.camera()))


def worse(right, count):
    """`count` of the right answers made wrong."""
    out = right.copy()
    out[np.flatnonzero(out)[:count]] = False
    return out


def better(right, count):
    out = right.copy()
    out[np.flatnonzero(~out)[:count]] = True
    return out


# The curve


def test_between_points_the_curve_is_straight_and_to_the_right_it_goes_on():
    sizes, accuracy = np.array([100.0, 40.0, 60.0]), np.array([0.92, 0.8, 0.9])
    np.testing.assert_allclose(
        accuracy_at(np.array([40, 50, 60, 80, 100, 500]), sizes, accuracy), [0.8, 0.85, 0.9, 0.91, 0.92, 0.92]
    )
    assert np.isnan(accuracy_at(39.9, sizes, accuracy))
    assert bytes_at(0.85, sizes, accuracy) == pytest.approx(50)
    assert bytes_at(0.5, sizes, accuracy) == 40
    assert np.isnan(bytes_at(0.93, sizes, accuracy))


def test_a_setting_that_costs_more_for_less_does_not_lower_the_curve():
    sizes, accuracy = np.array([40.0, 60.0, 80.0]), np.array([0.9, 0.85, 0.95])
    np.testing.assert_allclose(accuracy_at(np.array([60, 70]), sizes, accuracy), [0.9, 0.925])
    assert bytes_at(0.9, sizes, accuracy) == 40


@given(
    st.lists(st.tuples(st.floats(1, 1000), st.floats(0, 1)), min_size=1, max_size=8),
    st.floats(0, 1),
)
def test_bytes_at_is_the_least_that_reaches_the_goal(points, goal):
    sizes, accuracy = np.array(points).T
    found = bytes_at(goal, sizes, accuracy)
    if np.isnan(found):
        assert goal > accuracy.max()
    else:
        assert accuracy_at(found, sizes, accuracy) >= goal - 1e-6
        assert found >= sizes.min()


# Energy


def test_headers_are_counted_as_the_wire_has_them():
    for coded in range(1, 1100):
        lengths = frame_lengths(coded)
        assert (len(lengths), sum(lengths) - coded) == (frames(coded), energy.overhead(frames(coded)))


def test_radio_energy_of_one_frame_by_hand():
    # 71 bytes: a full frame of 127 + 6 of PHY at 32 us, 13.8 mA; 8 + 2*12 symbols and an ack of 11 bytes at
    # 11.8 mA; 3.5 back-off periods of 320 us at 0.3 mA; 3 V
    tx, rx, off = 133 * 32e-6, 32 * 16e-6 + 11 * 32e-6, 3.5 * 320e-6
    assert energy.radio_mj(71) == pytest.approx(3 * (13.8 * tx + 11.8 * rx + 0.3 * off))
    assert energy.radio_mj(72) > energy.radio_mj(71) * 1.3


def test_compute_is_the_network_s_own_figure_or_the_codec_s_cycles():
    right = np.ones(4, bool)
    network = record("on-device", "on-device", right, 1, device_macs=12_500_000)
    assert energy.cost(network, (32, 32, 3)).compute == pytest.approx(29.2)
    assert energy.cost(record("full", "full", right, 3072), (32, 32, 3)).compute == 0
    jpeg = energy.cost(record("jpeg-5", "jpeg", right, 40), (28, 28, 1)).compute
    webp = energy.cost(record("webp-5", "webp", right, 40), (28, 28, 1)).compute
    assert jpeg == pytest.approx(784 * 60 * 29.2 / (0.704 * 120e6))
    assert webp == pytest.approx(150 * jpeg)  # 90 times, and in colour: 100 for 60
    assert energy.cost(record("independent", "independent", right, 40), (28, 28, 1)).total is None


# Paired figures


def test_a_paired_difference_of_equal_rows_is_certain():
    right = np.random.default_rng(1).random(400) < 0.8
    draws = Draws([record("a", "full", right, 10), record("b", "full", right, 20)], seed=3)
    same = draws.figure(lambda a, _: float(a[0] - a[1]))
    assert (same.value, same.interval) == (0, (0, 0))
    alone = draws.figure(lambda a, _: float(a[0]))
    half = 1.96 * np.sqrt(right.mean() * (1 - right.mean()) / 400)
    assert alone.interval == (
        pytest.approx(alone.value - half, abs=0.006),
        pytest.approx(alone.value + half, abs=0.006),
    )


def test_draws_are_decided_by_their_seed():
    right = np.random.default_rng(1).random(100) < 0.8
    one, two, other = (Draws([record("a", "full", right, 10)], seed).accuracy for seed in (3, 3, 4))
    assert (one == two).all()
    assert (one[1:] != other[1:]).any()
    assert one[0] == other[0]


def test_the_slimming_tax_is_independent_less_ours(ours):
    others = []
    for i, mine in enumerate(ours.records):
        others += [
            record(
                f"independent-{mine.setting}@{s}",
                "independent",
                better(mine.right, 2 * (i + s) % 7),
                mine.coded,
                mine.setting,
            )
            for s in (1, 2)
        ]
    found = compare.slimming_tax(Table.of(ours, others, 1))
    expected = [(2 * (i + 1) % 7 + 2 * (i + 2) % 7) / 2 / N for i in range(4)]
    assert [item["tax"]["value"] for item in found["widths"]] == pytest.approx(expected, abs=1e-4)
    assert found["mean"]["value"] == pytest.approx(np.mean(expected), abs=1e-4)
    assert found["worst"]["value"] == pytest.approx(max(expected), abs=1e-4)
    assert all(item["bytes_matched"] and item["seeds"] == 2 for item in found["widths"])
    for item in found["widths"]:
        low, high = item["tax"]["ci95"]
        assert low <= item["tax"]["value"] <= high


def test_independent_heads_of_other_sizes_are_flagged_and_compared_at_equal_bytes(ours):
    mine = ours.records[0]
    smaller = record("independent-0.25", "independent", mine.right, (mine.coded * 2 + 2) // 3, "0.25")
    (item,) = compare.slimming_tax(Table.of(ours, [smaller], 1))["widths"]
    assert not item["bytes_matched"]
    assert item["bytes_ratio"] == pytest.approx(1.5, abs=0.05)
    assert item["tax"]["value"] == 0
    assert item["tax_at_equal_bytes"] == {"value": None, "ci95": None}  # our curve does not go so low


def test_the_slimming_tax_compares_what_saw_as_many_images(ours):
    """The bundle has seen other numbers of images than the independent heads: their own twins count."""
    seen = 10 * (ours.records[0].images_seen or 1)
    twins = [
        dataclasses.replace(row, row=f"slimmable-{row.setting}", kind="slimmable", images_seen=seen)
        for row in ours.records
    ]
    heads = [
        record(
            f"independent-{row.setting}{name}",
            "independent",
            better(row.right, gain),
            row.coded,
            row.setting,
            images_seen=images,
        )
        for row in ours.records
        for name, gain, images in (("", 2, seen), ("-short", 5, 100))
    ]
    found = compare.slimming_tax(Table.of(ours, [*twins, *heads], 1))
    assert found["compared"] == "slimmable"
    assert [item["tax"]["value"] for item in found["widths"]] == [pytest.approx(2 / N, abs=1e-4)] * 4
    assert {item["images_seen"]["ours"] for item in found["widths"]} == {seen}
    found = compare.slimming_tax(Table.of(ours, heads, 1))
    assert found["compared"] == "ours", "without twins the bundle is all there is to compare with"


def test_a_codec_is_lost_to_where_its_curve_is_higher(ours):
    first, last = ours.records[0], ours.records[-1]
    low, high = first.coded.mean(), last.coded.mean()
    sizes = [int(low + 8), int((low + high) / 2), int(1.5 * high)]
    rivals = [
        record("jpeg-1", "jpeg", worse(first.right, 40), sizes[0], "1"),
        record("jpeg-20", "jpeg", worse(first.right, 20), sizes[1], "20"),
        record("jpeg-75", "jpeg", better(last.right, 12), sizes[2], "75"),
    ]
    found = compare.against(Table.of(ours, rivals, 1), "jpeg")
    assert [point["bytes"] for point in found["points"]] == sizes
    assert [point["ours_less_theirs"]["value"] > 0 for point in found["points"]] == [True, True, False]
    crossing = found["crossover"]
    assert sizes[1] < crossing["bytes"] < sizes[2]
    assert found["loses"] == [[crossing["bytes"], sizes[2] + 1]]
    assert found["wins"][0][1] == crossing["bytes"] - 1
    assert found["wins"][0][0] == int(np.ceil(first.coded.mean()))
    assert first.device_macs < crossing["ours"]["device_macs"] <= last.device_macs
    assert crossing["theirs"]["mj"] > 0


def test_a_codec_that_never_wins_has_no_crossover(ours):
    found = compare.against(
        Table.of(ours, [record("webp-1", "webp", worse(ours.records[0].right, 50), 100)], 1), "webp"
    )
    assert found["crossover"] is None
    assert found["loses"] == []


def test_bytes_at_equal_accuracy(ours):
    second, last = ours.records[1], ours.records[-1]
    table = Table.of(
        ours,
        [
            record("bottleneck-4", "bottleneck", second.right, 196, "4"),
            record("bottleneck-2", "bottleneck", worse(ours.records[0].right, 30), 98, "2"),
            record("bottleneck-16", "bottleneck", better(last.right, 20), 784, "16"),
        ],
        1,
    )
    low, equal, high = compare.bytes_for_equal_accuracy(table, "bottleneck")
    best = min(r.coded.mean() for r in ours.records if r.right.mean() >= second.right.mean())
    assert equal["our_share_of_bytes"]["value"] <= best / 196 + 1e-3
    assert low["at_most"]
    assert low["our_share_of_bytes"]["value"] == pytest.approx(ours.records[0].coded.mean() / 98, abs=1e-3)
    assert high["our_share_of_bytes"]["value"] is None


def test_input_share_and_coding_come_from_what_ships(ours):
    table = Table.of(ours, [record("full", "full", better(ours.records[-1].right, 5), 784)], 1)
    shares = compare.input_share(table)
    assert shares[-1]["share"] == pytest.approx(ours.records[-1].coded.mean() / 784, abs=1e-4)
    assert shares[-1]["below_full_model"]["value"] == pytest.approx(5 / N, abs=1e-4)
    for item in compare.coding(table):
        assert item["cross_entropy_bytes"] < item["real_bytes"] <= item["allowed_bytes"]
        assert item["tables_and_map_bytes"] <= 384


def test_goals_say_what_is_held_and_what_has_no_rows(ours):
    table = Table.of(ours, [], 1)
    figures = {
        "input_share": compare.input_share(table),
        "slimming_tax": None,
        "coding": compare.coding(table),
        "codecs": {"jpeg": None, "webp": {"loses": [[61, 90]]}},
        "bottleneck": [{"our_share_of_bytes": {"value": 0.51}}, {"our_share_of_bytes": {"value": None}}],
    }

    def held():
        return {item["goal"]: item["held"] for item in goals.held("fashion-mnist", table, figures)}

    found = held()
    assert found["slimming tax: mean <= 0.5 points, none > 1.5, bytes matched"] is None
    assert found["above jpeg at every rate <= 60 bytes"] is None
    assert found["above webp at every rate <= 60 bytes"] is True
    assert found["half the bytes of the int8 bottleneck at equal accuracy"] is False
    assert found["real bytes <= 1.02 x cross-entropy + 2"] is True
    assert found["full model >= 92.5%"] is True, "the bundle records it"
    figures["codecs"]["webp"]["loses"] = [[60, 60]]
    assert held()["above webp at every rate <= 60 bytes"] is False


# Records


def test_rows_of_unknown_kinds_are_left_out_and_named(tmp_path):
    data = DataSet("own.npz", "npz", np.zeros((16, 28, 28, 1), np.uint8), np.zeros(16, np.int64))
    written = [{"row": "jpeg-5", "kind": "jpeg"}, {"row": "guess", "kind": "guess"}]
    arrays = {"rows": np.array(json.dumps(written))}
    for row in written:
        arrays |= {
            f"{row['row']}/right": np.packbits(np.ones(16, bool)),
            f"{row['row']}/bytes": np.full(16, 50, np.uint16),
        }
    np.savez(tmp_path / "own.npz", **arrays)
    found, said = rows.recorded(tmp_path / "own.npz", data)
    assert [(r.row, r.kind, r.coded[0]) for r in found] == [("jpeg-5", "jpeg", 50)]
    assert len(said) == 1
    assert "kinds not known here: guess" in said[0]


def invoke(*arguments):
    return CliRunner().invoke(app, ["frontier", *arguments])


@pytest.fixture
def own(tmp_path):
    """The camera's first 96 images as a data set of one's own."""
    x, y = Bundle.load("fashion-mnist").camera()
    np.savez(tmp_path / "own.npz", x=x[:96], y=y[:96])
    return ["--data", str(tmp_path / "own.npz"), "--bundle", "fashion-mnist"]


def test_the_command_without_records_has_our_rows_and_says_so(own):
    result = invoke(*own, "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert [row["row"] for row in found["rows"]] == ["ours-0.25", "ours-0.5", "ours-0.75", "ours-1"]
    assert (found["slimming_tax"], found["codecs"], found["bottleneck"]) == (
        None,
        {"jpeg": None, "webp": None},
        [],
    )
    assert "there are no records at" in result.stderr
    assert found["rows"][0]["mj"]["total"] == pytest.approx(
        found["rows"][0]["mj"]["compute"] + found["rows"][0]["mj"]["radio"], abs=2e-4
    )
    tail = (Bundle.load("fashion-mnist").path / "tail.tflite").read_bytes()
    assert found["rows"][0]["server_macs"] == macs(tail) > 1_000_000


def test_the_command_with_records_compares_and_draws(own, tmp_path):
    rng = np.random.default_rng(1)
    kinds = {
        "jpeg": (45, 78, 134),
        "webp": (100, 150),
        "bottleneck": (98, 196, 392),
        "entropic": (40, 90),
        "ensemble": (50, 99),
    }
    labels = {**dict.fromkeys(kinds, "another"), "jpeg": "JPEG quality", "bottleneck": "int8 bottleneck"}
    made = [
        record(
            f"{kind}-{size}", kind, rng.random(96) < 0.6 + size / 1000, size, str(size), label=labels[kind]
        )
        for kind, sizes in kinds.items()
        for size in sizes
    ]
    made += [
        record(f"independent-{w}", "independent", rng.random(96) < 0.9, 50, w)
        for w in ("0.25", "0.5", "0.75", "1")
    ]
    made += [
        record("full", "full", rng.random(96) < 0.95, 784),
        record(
            "on-device",
            "on-device",
            rng.random(96) < 0.9,
            1,
            label="all on the device",
            device_macs=9_000_000,
        ),
    ]
    records.write(tmp_path / "made.npz", {"n": 96, "source": "npz"}, made)
    arguments = [*own, "--records", str(tmp_path / "made.npz"), "--plot", str(tmp_path / "f.png")]
    result = invoke(*arguments, "--json", "--seed", "4")
    assert result.exit_code == 0
    assert result.stderr == ""
    found = json.loads(result.stdout)
    assert len(found["rows"]) == 4 + len(made)
    assert len(found["bottleneck"]) == 3
    assert all(found["codecs"].values())
    assert len(found["slimming_tax"]["widths"]) == 4
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
    assert invoke(*arguments, "--seed", "4").exit_code == 0
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(report.table(found))
    shown = console.export_text()
    for text in ("JPEG quality", "int8 bottleneck", "all on the device", "NUCLEO-L4R5ZI"):
        assert text in shown


@pytest.mark.parametrize("path", sorted(rows.RECORDS.glob("*.npz")), ids=lambda path: path.stem)
def test_the_records_that_ship_hold_every_baseline(path):
    about = records.read(path)[0]
    widths = len(Bundle.load(path.stem).widths)
    kept, said = rows.recorded(
        path,
        DataSet(
            path.stem,
            about.get("source", "official"),
            np.zeros((about["n"], 1, 1, 1), np.uint8),
            np.zeros(1, int),
        ),
    )
    assert said == []
    counts = Counter(row.kind for row in kept)
    least = {
        "jpeg": 5,
        "webp": 5,
        "bottleneck": 3,
        "entropic": 2,
        "independent": widths,
        "full": 1,
        "on-device": 1,
    }
    assert {kind: counts[kind] for kind in least if counts[kind] < least[kind]} == {}
    assert all(0.3 < row.top1 < 1 for row in kept)


def test_records_of_other_images_are_left_out(own, tmp_path):
    made = [record("full", "full", np.ones(50, bool), 784)]
    records.write(tmp_path / "made.npz", {"n": 50}, made)
    result = invoke(*own, "--records", str(tmp_path / "made.npz"), "--json")
    assert result.exit_code == 0
    assert "records 50 images" in " ".join(result.stderr.split())
    assert len(json.loads(result.stdout)["rows"]) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "cats", "--bundle", "fashion-mnist"], "'cats' is no data set"),
        (["--data", "cats"], "cats is no bundle"),
        (["--data", "cifar10", "--bundle", "fashion-mnist"], "cifar10 has the classes"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments, message):
    with pytest.raises(SlimwireError, match=message):
        raise invoke(*arguments).exception


def test_a_plot_that_cannot_be_written_is_refused(own, tmp_path):
    with pytest.raises(SlimwireError, match="cannot be written"):
        raise invoke(*own, "--json", "--plot", str(tmp_path / "no" / "f.png")).exception
