"""The table: Slimwire holds under every attack, rows are complete and repeatable, comparisons are fair."""

import json
import math
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from lab.attacks.pass_through import PassThrough
from lab.cli import app
from lab.experiments.attack import compare as compare_module
from lab.experiments.attack import live, run
from lab.experiments.attack.air import Plan, Reception, Recording, simulate
from lab.experiments.attack.attackers import ATTACKS
from lab.experiments.attack.compare import compare, difference, wilson
from lab.experiments.attack.defences import DEFENCES, Settings, memory_for
from lab.experiments.attack.defences.slimwire import Slimwire
from lab.experiments.attack.formats import Manifest, Member, Message, Plain, Sent
from lab.experiments.attack.judge import play
from lab.experiments.attack.plot import draw
from lab.experiments.attack.report import names
from tests.lab.attack_kit import fragn

COLUMNS = {
    "attack", "defence", "delivery", "delivery_control", "forged_accepted", "forged_buffered_bytes",
    "buffer_peak_bytes", "buffer_bound_bytes", "fragments_to_detect", "energy_mj_per_delivered",
    "airtime_legit", "airtime_attack", "victim_trust_min", "victim_trust_control", "false_reject", "rejected",
}  # fmt: skip
SHORT = Plan(devices=12, rate=0.5, seconds=25.0)


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("loss", [0.1, 0.3])
def test_slimwire_holds(attack, loss):
    plan = Plan(devices=12, rate=0.5, seconds=30.0, loss=loss)
    result = run.run(plan, [attack], ["slimwire"])
    (row,) = result.rows
    assert row["delivery"] >= 0.98 * row["delivery_control"] > 0
    assert row["forged_accepted"] == 0
    assert row["buffer_peak_bytes"] <= row["buffer_bound_bytes"] == memory_for(12 + ATTACKS[attack].insider)
    # A replay can stand in for a fragment that was lost: then one message more was answered.
    assert row["victim_trust_min"] >= row["victim_trust_control"] - 1e-9
    assert row["false_reject"] <= 0.001


@pytest.mark.parametrize("attack", ATTACKS)
def test_slimwire_with_recovery_holds(attack):
    """Datagrams really sent in recoverable fragments; the attacker forges hints to both ends."""
    plan = Plan(devices=12, rate=0.5, seconds=20.0)
    (row,) = run.run(plan, [attack], ["slimwire-recovery"]).rows
    assert row["delivery"] >= 0.98 * row["delivery_control"] > 0.95
    assert row["forged_accepted"] == 0
    assert row["buffer_peak_bytes"] <= row["buffer_bound_bytes"]
    assert row["victim_trust_min"] >= row["victim_trust_control"] - 1e-9
    assert row["false_reject"] <= 0.001


def test_forged_hints_reach_both_ends_of_datagrams_that_recover(monkeypatch):
    """Or the attack would show nothing."""
    aborts = 0
    hear = live._Device.hear

    def counting(device, frame):
        nonlocal aborts
        aborts += frame[21] == 0xEA and frame[23:27] == bytes(4)
        hear(device, frame)

    monkeypatch.setattr(live._Device, "hear", counting)
    plan = Plan(devices=12, rate=0.5, seconds=20.0)
    attacked, control = (
        live.simulate(plan, ATTACKS["forged-control"], attacked=attacked) for attacked in (True, False)
    )
    assert any(reception.sent.forged for reception in attacked.receptions)
    assert not any(reception.sent.forged for reception in control.receptions)
    assert attacked.messages == control.messages
    assert aborts > 50
    kinds = {reception.sent.inner[0] for reception in attacked.receptions if not reception.sent.forged}
    assert 0xE8 in kinds
    (row,) = run.run(plan, ["forged-control"], ["slimwire-recovery"]).rows
    assert row["rejected"]["stray-ack"] > 0
    assert row["rejected"]["recovery-abort"] > 0


@pytest.mark.parametrize("seed", [1, 2])
def test_devices_that_recover_do_not_fill_the_channel_themselves(seed):
    """Waits of one length did: 30 devices that need a fifth of the airtime took all of it."""
    plan = Plan(devices=30, seconds=25.0, seed=seed)
    recording = live.simulate(plan, ATTACKS["whitewashing"], attacked=False)
    sent = sum(map(len, recording.messages.values()))
    assert sent > 200
    assert recording.airtime_legit < 0.45
    assert recording.frames < 8 * sent


def test_rows_that_send_again_are_not_compared_with_those_that_do_not():
    result = run.run(SHORT, ["replay-old"], ["none-riot", "slimwire", "slimwire-recovery"])
    assert [comparison.against for comparison in result.comparisons()] == ["none-riot"]


@pytest.mark.parametrize(
    ("attack", "defence"),
    [
        ("early-injection", "none-riot"),
        ("duplication", "none-contiki"),
        ("framing", "paper"),
        ("compromised", "link-mic"),
    ],
)
def test_the_attacks_do_harm_where_nothing_stops_them(attack, defence):
    (row,) = run.run(SHORT, [attack], [defence]).rows
    assert row["delivery"] < 0.9 * row["delivery_control"]


def test_rows_are_the_same_whatever_the_number_of_processes():
    names = ["none-riot", "slimwire", "paper"]
    one = run.run(SHORT, ["flooding", "replay-old"], names, jobs=1)
    two = run.run(SHORT, ["flooding", "replay-old"], names, jobs=2)
    assert one.rows == two.rows
    assert one.pooled() == two.pooled()
    assert [(row["attack"], row["defence"]) for row in one.rows] == [
        (attack, name) for attack in ("flooding", "replay-old") for name in names
    ]


def test_defences_of_one_format_share_a_recording():
    todo = run.tasks(SHORT, ["flooding"], list(DEFENCES))
    assert [task.defences for task in todo if "none-riot" in task.defences] == [("none-riot", "none-contiki")]
    assert len(todo) == len({kind.air for kind in DEFENCES.values()}) == len(DEFENCES) - 2


def test_the_command_prints_every_column_and_draws(tmp_path):
    arguments = ["attack", "--attacks", "framing", "--defences", "paper,slimwire", "--devices", "5"]
    arguments += ["--seconds", "20", "--rate", "1", "--jobs", "1", "--json", "--plot", str(tmp_path)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    tree = json.loads(result.stdout)
    assert [row["defence"] for row in tree["rows"]] == ["paper", "slimwire"]
    assert all(set(row) == COLUMNS for row in tree["rows"])
    assert [c["against"] for c in tree["comparisons"]] == ["paper"]
    assert {path.name for path in tmp_path.iterdir()} >= {"delivery.svg", "memory.svg"}
    for path in tmp_path.iterdir():
        bars = ElementTree.parse(path).getroot().iter("{http://www.w3.org/2000/svg}rect")
        assert sum(1 for _ in bars) == 1 + 2 + 2  # the ground, the legend, a bar for each row


def test_the_table_is_for_people_without_json():
    arguments = ["attack", "--attacks", "framing", "--defences", "paper,slimwire", "--devices", "5"]
    result = CliRunner().invoke(app, [*arguments, "--seconds", "20", "--jobs", "1"])
    assert result.exit_code == 0
    assert "garbage of every kind" in result.stdout


def test_a_name_that_is_not_known_is_named():
    result = CliRunner().invoke(app, ["attack", "--attacks", "rain"])
    assert result.exit_code != 0
    assert "rain" in str(result.exception)
    assert "flooding" in str(result.exception)


def test_all_is_what_the_table_has():
    assert names("all", DEFENCES, "defence") == [
        "none-riot", "none-contiki", "split-buffer", "paper", "link-mic", "link-mic-pairwise", "slimwire",
        "slimwire-recovery",
    ]  # fmt: skip
    assert names("slimwire, split-buffer-large", DEFENCES, "defence") == ["split-buffer-large", "slimwire"]


def test_attacks_and_defences_are_listed():
    result = CliRunner().invoke(app, ["attacks", "--json"])
    tree = json.loads(result.stdout)
    assert list(tree["attacks"]) == list(ATTACKS)
    assert list(tree["defences"]) == list(DEFENCES)


def test_charts_go_somewhere_or_say_why_not(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Exception, match="cannot be written"):
        draw([], tmp_path / "file")


# Judging.


def recording(*receptions, messages):
    members = [Member(1)]
    sent = {members[0].eui: [message.octets for message in messages]}
    return Recording(members, [], sent, list(receptions), 1.0, [1.0], 0.0, 0.0, 0, 0, 0)


def sent_by(fmt, message, *, forged=False):
    member = Member(1)
    out = []
    for piece in fmt.pieces(member, message):
        sent = fmt.frame(member, piece)
        out.append(Sent(sent.frame, sent.inner, sent.source, forged))
    return out


def judge(defence, *receptions, messages, attacked=True):
    kind = DEFENCES[defence]
    target = kind.make(Settings([Member(1)], memory_for(1), 60.0), kind.fmt())
    return play(recording(*receptions, messages=messages), target, attacked=attacked)


def test_without_the_chain_forgeries_are_delivered_and_counted():
    plan = Plan(devices=12, rate=0.5, seconds=30.0)
    air = simulate(plan, Manifest(), ATTACKS["early-injection"])
    settings = Settings(air.members, memory_for(12), 60.0)
    unlocked = play(air, Slimwire(settings, Manifest(), PassThrough()), attacked=True)
    locked = play(air, Slimwire(settings, Manifest()), attacked=True)
    assert unlocked.forged_accepted > 10
    assert unlocked.delivered < 0.7 * locked.delivered
    assert locked.forged_accepted == 0


def test_the_control_discards_what_the_attacker_sent():
    fmt, message = Plain(), Message(1, bytes(300))
    first, *rest = sent_by(fmt, message)
    forged = Sent(fragn(first.frame, 88, b"f" * 96), b"", first.source, forged=True)
    receptions = [Reception(0.1 * n, sent) for n, sent in enumerate([first, forged, *rest])]
    attacked = judge("none-riot", *receptions, messages=[message])
    control = judge("none-riot", *receptions, messages=[message], attacked=False)
    assert (attacked.delivered, attacked.sent, control.delivered) == (0, 1, 1)
    assert (attacked.forged_buffered, control.forged_buffered) == (96, 0)
    assert attacked.refused == 0  # RIOT calls the genuine fragment a duplicate
    assert attacked.detected is None


def test_a_replay_is_forged_where_it_is_delivered_a_second_time():
    fmt, message = Plain(), Message(1, bytes(300))
    genuine, again = sent_by(fmt, message), sent_by(fmt, message, forged=True)
    receptions = [Reception(0.1 * n, sent) for n, sent in enumerate([*genuine, *again])]
    outcome = judge("none-riot", *receptions, messages=[message])
    assert (outcome.delivered, outcome.forged_accepted) == (1, len(again))
    fmt = Manifest()
    genuine, again = sent_by(fmt, message), sent_by(fmt, message, forged=True)
    receptions = [Reception(0.1 * n, sent) for n, sent in enumerate([*genuine, *again])]
    outcome = judge("slimwire", *receptions, messages=[message])
    assert (outcome.delivered, outcome.forged_accepted) == (1, 0)


def test_a_verbatim_copy_in_time_is_no_forgery():
    fmt, message = Plain(), Message(1, bytes(300))
    first, second, *rest = sent_by(fmt, message)
    copy = Sent(second.frame, second.inner, second.source, forged=True)
    receptions = [Reception(0.1 * n, sent) for n, sent in enumerate([first, copy, second, *rest])]
    outcome = judge("none-riot", *receptions, messages=[message])
    assert (outcome.delivered, outcome.forged_accepted) == (1, 0)


def test_a_legitimate_fragment_without_a_context_counts_as_refused_and_its_copy_as_a_duplicate():
    fmt, message = Plain(), Message(1, bytes(300))
    first, second, *_ = sent_by(fmt, message)
    outcome = judge("none-contiki", Reception(0.0, second), Reception(1.0, first), Reception(1.1, first),
                    messages=[message])  # fmt: skip
    assert (outcome.received, outcome.refused) == (3, 1)


# Comparing.


def test_intervals_are_those_of_the_literature():
    # Newcombe 1998, table II: 56/70 - 48/80.
    low, high = difference((56, 70), (48, 80))
    assert (round(low, 4), round(high, 4)) == (0.0524, 0.3339)
    assert tuple(round(x, 4) for x in wilson(81, 263)) == (0.2553, 0.3662)
    assert wilson(0, 0) == (0.0, 1.0)


def test_energy_differs_only_beyond_the_spread_between_devices():
    cheap, dear = [(10.0 + n % 3, 10) for n in range(30)], [(13.0 + n % 3, 10) for n in range(30)]
    assert compare_module.dearer(dear, cheap)
    assert not compare_module.dearer(cheap, dear)
    assert not compare_module.dearer([(10.1 + n % 3, 10) for n in range(30)], cheap)
    assert not compare_module.dearer([(1.0, 0)], [(1.0, 0)])


@pytest.mark.parametrize(
    ("own", "other", "verdict", "costlier"),
    [
        ((0.9, 10, 1.0), (0.5, 5, 0.5), "better", ("memory", "energy")),
        ((0.9, 10, 1.0), (0.9, 10, 1.0), "equal", ()),
        ((0.9, 11, 1.0), (0.9, 10, 1.0), "equal-costlier", ("memory",)),
        ((0.9, 10, 1.1), (0.9, 10, 1.0), "equal-costlier", ("energy",)),
        ((0.5, 1, 0.1), (0.9, 10, 1.0), "worse", ()),
    ],
)
def test_delivery_decides_and_then_memory_and_energy(own, other, verdict, costlier):
    def row(name, values):
        return {"attack": "x", "defence": name, "delivery": values[0], "buffer_peak_bytes": values[1]}

    energy = ([(own[2], 1)] * 30, [(other[2], 1)] * 30)
    result = compare(row("slimwire", own), row("other", other), (1000, 1000), energy)
    assert (result.verdict, result.costlier) == (verdict, costlier)
    assert not math.isnan(result.difference[0])
