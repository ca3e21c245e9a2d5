"""The long form of the state machines: 10^5 steps each, without an exception and without growth of memory."""

import gc

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, run_state_machine_as_test

from tests.gateway.test_receiver_properties import Air as GatewayAir
from tests.gateway.test_recovery import BothEnds
from tests.wire.test_recovery import Air as RecoveryAir

STEPS = 100_000
_OURS = {"gateway", "security", "wire"}
#: Our own objects that may outlive the machine they belong to. (Hypothesis keeps many of its own.)
MOST_KEPT = 50


def ours() -> int:
    """How many objects of our classes there are."""
    gc.collect()
    return sum(type(one).__module__.partition(".")[0] in _OURS for one in gc.get_objects())


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    "machine", [GatewayAir, RecoveryAir, BothEnds], ids=["gateway", "recovery", "both-ends"]
)
def test_a_hundred_thousand_steps(
    machine: type[RuleBasedStateMachine], capsys: pytest.CaptureFixture[str]
) -> None:
    steps = 0

    class Counted(machine):  # type: ignore[misc, valid-type]
        @invariant()
        def one_more(self) -> None:
            nonlocal steps
            steps += 1

    kept = []
    while steps < STEPS or len(kept) < 2:
        run_state_machine_as_test(
            Counted,
            settings=settings(
                max_examples=250,
                stateful_step_count=100,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
        kept.append(ours())
    with capsys.disabled():
        print(f"\n{machine.__module__}: {steps} steps, {kept[-1] - kept[0]} objects grown")
    assert kept[-1] - kept[0] < MOST_KEPT
