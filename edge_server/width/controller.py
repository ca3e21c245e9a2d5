"""The controller that ships: the width with the highest `accuracy · P(on time | width)`.

Per device and model, in constant time and memory:

- *Seconds per byte.* A message that took s seconds with its custody ack, over the bytes of channel time that
  both take, gives ln x; an exponential mean x̂ of it is the forecast. A message that never arrived moves it
  up.
- *P(on time).* Width w has the margin z = ln(time left / (x̂ · bytes of message, custody ack and answer)),
  where head time, the way to the server and the server's queue are taken off the time left. P is the share
  of this device's own forecast errors ln x - ln x̂ that were below z, older ones weighing less: its jitter
  and changes, whatever their distribution; times the chance that none of the width's frames is lost. One
  error says something about every width (no width must be tried to learn about it), and a wider one is never
  thought more punctual than a narrower one.
- *Loss by the frame.* A message of three frames is lost about three times as often as one of one. One share
  of lost frames is learned from messages of every width; one that took twice as long as forecast counts for
  a part of a lost one: fading that a frame's retries overcome late hits more frames more often, too.
- *Shrinkage.* P is mixed with the slow mean of the same counterfactuals per width, which alone would follow
  the best fixed width; they start from the first forecast.
- *Switches cost.* A token bucket lets through less than one switch in ten messages on average, and the gain a
  switch must promise grows as the bucket empties (hysteresis). It is a price in utility, the same for every
  bundle.
- *Constraints.* A floor (where nothing is likely to be on time, the cheapest), a duty cycle, a low battery, a
  required on-time share, and no step up while samples wait on the device.
- *A look upwards.* A fixed cost per message makes narrow messages look slow per byte. So now and then the
  next better width is used once, where it needs less than twice the speed. Where it is much faster than
  forecast, it is looked at again soon, and what both looks agree on is from then on this width's bias. Only
  looks tell, whose moments the link does not choose: a width that is used when the link is good looks fast,
  and one that is used all the time looks like the link itself. Each look that fails doubles the wait for the
  next. Looks are rare since most links have nothing to find, and one look costs a message.
- *Silence.* After `horizon` seconds x̂ is forgotten, the counts are not.
"""

from collections.abc import Sequence
from math import exp, isinf, log, nan

from edge_server.width.state import (
    BIN_LOW,
    BIN_STEP,
    BINS,
    DeviceState,
    Plan,
    Reason,
)
from edge_server.width.types import ANSWER_AIR, CUSTODY_AIR, Choice, Sample, WidthOption, air

_SLOWER_WHEN_LOST = 0.5
_SATURATED = 255
_START = 20
_HEAVY = 1e6
_TOKENS = 6.0
_TOKENS_PER_MESSAGE = 0.09
_MOST_PATIENCE = 4096
_WITHIN_REACH = -0.7  # ln: needs twice the forecast speed
_MUCH_SLOWER = 0.7  # ln: such a message counts as that much of a lost one
_LIKE_A_LOSS = 0.3
_MUCH_FASTER = 0.4  # ln: more than one message's chance
_AGAIN = 16  # messages from a look that was much faster to the second
_LOSS_MOST = 0.9

_SENTENCES = {
    Reason.UNKNOWN: "nothing measured yet: keep the device's width",
    Reason.BEST: "highest accuracy x P(on time)",
    Reason.STAY: "no other width gains enough to switch",
    Reason.FLOOR: "hardly anything is likely to be on time: the cheapest",
    Reason.BUDGET: "the duty cycle or the battery allows no more",
    Reason.PROBE: "one look upwards: is this width faster than it seems?",
    Reason.QUEUE: "samples wait on the device: no step up",
}


class ChanceConstrained:
    """The rule of this module.

    Args:
        deadline: seconds within which an answer counts as on time: from the sample where the options know
            the head's time, else from the first frame.
        smoothing: weight of a new measurement in x̂, 0..1.
        margin: what a switch must gain in value (accuracy · P) with a full bucket of tokens; twice as much
            more for each token spent.
        shrinkage: weight of the slow means in P(on time), 0..1.
        memory: messages that the slow means look back on; `errors`: that the forecast's errors and the
            share of lost frames do.
        floor: P(on time) of the best width at and below which the cheapest is chosen.
        min_on_time: on-time share wanted; widths below it pay for what they lack, accuracy or not.
        duty_cycle: share of the time a device may send, 0..1; 1: all of it.
        low_battery: reported battery (1..15) at and below which the cheapest width is used; 0: never.
        patience: messages between two looks upwards, at first.
        horizon: seconds of silence after which the forecast is forgotten.
        server_seconds: from the gateway to the answer on the air, waiting left out.
    """

    def __init__(
        self,
        deadline: float,
        *,
        smoothing: float = 0.6,
        margin: float = 0.002,
        shrinkage: float = 0.1,
        memory: int = 200,
        errors: int = 1000,
        floor: float = 0.02,
        min_on_time: float = 0.0,
        duty_cycle: float = 1.0,
        low_battery: int = 0,
        patience: int = 512,
        horizon: float = 120.0,
        server_seconds: float = 0.03,
    ) -> None:
        self.deadline = deadline
        self._smoothing = smoothing
        self._margin = margin
        self._shrinkage = shrinkage
        self._slow = 1.0 / memory
        self._keep = 1 - 1.0 / errors
        self._growth = 1 / self._keep
        self._floor = floor
        self._min_on_time = min_on_time
        self._duty_cycle = duty_cycle
        self._low_battery = low_battery
        self._patience = patience
        self._horizon = horizon
        self._server_seconds = server_seconds
        self._plans: dict[int, Plan] = {}
        self._devices: dict[bytes, DeviceState] = {}

    def __len__(self) -> int:
        return len(self._devices)

    def observe(self, device: bytes, sample: Sample) -> None:
        """Take in how a message fared. Devices that were never asked about are unknown, and stay so."""
        state = self._devices.get(device)
        if state is None:
            return
        plan, memory = state.plan, state.memory
        n = len(plan.options)
        at, seconds, frames, retries, coded, waited, index, battery = sample
        known = state.x == state.x
        if state.samples and at - state.at < self._horizon:
            gap = at - state.at
            state.interval += (gap - state.interval) * (0.1 if state.interval else 1.0)
        state.at = at
        if state.samples < _SATURATED:
            state.samples += 1
        state.battery = battery
        lost = isinf(seconds) or retries > 0
        if isinf(seconds):
            measured = (state.x if known else plan.limit[plan.cheapest] or -6.0) + _SLOWER_WHEN_LOST
        else:
            measured = log(max(seconds, 1e-4) / (air(frames, coded) + CUSTODY_AIR))
            if 0 <= index < n and known:
                measured = self._unbias(state, index, measured)
        self._count(state, measured, frames, lost, waited)
        state.x = state.x + self._smoothing * (measured - state.x) if known else measured
        if state.probing >= 0 and index == state.probing:
            limit = plan.limit[index]
            late = lost or limit is None or measured + memory[BINS + n + index] > limit
            state.patience = min(2 * state.patience, _MOST_PATIENCE) if late else self._patience
            unsure = state.hint < 0 and not memory[BINS + n + index]
            state.probe, state.probing = _AGAIN if unsure else state.patience, -1

    def choose(
        self,
        device: bytes,
        options: Sequence[WidthOption],
        current: int,
        now: float,
        queue: int = 0,
        waited: float = 0.0,
    ) -> int:
        """The next width by the module's rule. Keeps `current` while nothing is measured."""
        state = self._devices.get(device)
        if state is None or state.plan.options is not options:
            state = self._meet(device, options)
        if now - state.at > self._horizon:
            state.x = nan
        if state.x != state.x:
            state.pick = -1
            state.note(now, current, Reason.UNKNOWN, b"")
            return current
        if state.pick < 0:
            state.pick = current
        if state.tokens < _TOKENS:
            state.tokens += _TOKENS_PER_MESSAGE
        on_time, value = self._forecast(state, waited)
        index, reason = self._decide(state, on_time, value, current, queue)
        state.note(now, index, reason, bytes([int(p * 255 + 0.5) for p in on_time]))
        return index

    def explain(self, device: bytes) -> list[Choice]:
        """The last choices, newest first."""
        state = self._devices.get(device)
        if state is None:
            return []
        options = state.plan.options
        found = []
        for at, index, reason, samples, shares in state.choices():
            on_time = () if reason is Reason.UNKNOWN else tuple(share / 255 for share in shares)
            value = tuple(o.accuracy * p for o, p in zip(options, on_time, strict=False))
            sentence = _SENTENCES[reason]
            if on_time:
                sentence += f" ({options[index].accuracy:.3f} x {on_time[index]:.2f})"
            found.append(Choice(at, index, options[index].width, sentence, on_time, value, samples))
        return found

    def _meet(self, device: bytes, options: Sequence[WidthOption]) -> DeviceState:
        plan = self._plans.get(id(options))
        if plan is None or plan.options is not options:
            plan = self._plans[id(options)] = Plan.of(options, self.deadline, self._server_seconds)
        state = self._devices[device] = DeviceState.of(plan)
        state.tokens = _TOKENS
        state.patience = state.probe = self._patience
        return state

    @staticmethod
    def _unbias(state: DeviceState, index: int, measured: float) -> float:
        """ln x without what is usual for this width against the others; two looks upwards tell that."""
        plan, memory = state.plan, state.memory
        first = BINS + len(plan.options)
        if index == state.probing:
            faster = min(measured - state.x + _MUCH_FASTER, 0.0)
            bias, state.hint = max(faster, state.hint), faster
            limit = plan.limit[index]
            if limit is not None:
                # Never sooner through than a smaller message.
                for w, other in enumerate(plan.limit):
                    if other is not None and other > limit:
                        bias = max(bias, limit - other + memory[first + w])
            memory[first + index] = bias
        return measured - memory[first + index]

    def _count(self, state: DeviceState, measured: float, frames: float, lost: bool, waited: float) -> None:
        """What this message says: the forecast's error, the loss, and about every width whether it would have
        been on time, for the slow means.

        Of a lost message it is taken that one of its frames was lost, and what was under way as forecast.
        """
        plan, memory = state.plan, state.memory
        slow = max(self._slow, 1.0 / (state.samples + _START))
        n = len(plan.options)
        state.frames = state.frames * self._keep + frames
        burst = not lost and measured - state.x > _MUCH_SLOWER
        state.lost = state.lost * self._keep + (_LIKE_A_LOSS if burst else lost)
        arrives = 1.0 - min(state.lost / state.frames, _LOSS_MOST)
        if state.x == state.x:
            if lost:
                measured = state.x
            else:
                b = int((measured - state.x - BIN_LOW) / BIN_STEP)
                memory[min(max(b, 0), BINS - 1)] += state.weight
                state.weight *= self._growth
                if state.weight > _HEAVY:
                    for b in range(BINS):
                        memory[b] /= state.weight
                    state.weight = 1.0
        place = BINS
        for w in range(n):
            limit = plan.limit[w]
            if waited and limit is not None:
                left = plan.left[w] - waited
                limit = log(left / plan.air[w]) if left > 0 else None
            ok = 0.0
            if limit is not None and measured + memory[place + n] <= limit:
                more = plan.frames[w] - frames
                # Of a lost message, the chance that a shorter one had not the frame that was lost.
                ok = max(-more, 0.0) / frames if lost else arrives ** max(more, 0.0)
            memory[place] += slow * (ok - memory[place])
            place += 1

    def _forecast(self, state: DeviceState, waited: float) -> tuple[list[float], list[float]]:
        """P(on time) and value per width."""
        plan, memory, x = state.plan, state.memory, state.x
        n = len(plan.options)
        share, wanted = self._shrinkage, self._min_on_time
        total = sum(memory[:BINS])
        arrives = 1.0 - min(state.lost / state.frames, _LOSS_MOST)
        first = not state.forecast
        on_time, value = [], []
        place = BINS
        for w in range(n):
            limit = plan.limit[w]
            p = 0.0
            if limit is not None:
                z = limit - x - memory[place + n]
                if waited:
                    left = plan.left[w] - waited
                    z = z + log(left / plan.left[w]) if left > 0 else BIN_LOW
                at = (z - BIN_LOW) / BIN_STEP
                if at > 0:
                    b = min(int(at), BINS - 1)
                    inside = at - b if b < BINS - 1 else 0.0
                    p = (sum(memory[:b]) + inside * memory[b]) / total * arrives ** plan.frames[w]
            if first:
                memory[place] = p
            p += share * (memory[place] - p)
            on_time.append(p)
            v = plan.accuracy[w] * p
            if p < wanted:
                v -= wanted - p
            value.append(v)
            place += 1
        state.forecast = True
        return on_time, value

    def _decide(
        self, state: DeviceState, on_time: list[float], value: list[float], current: int, queue: int
    ) -> tuple[int, Reason]:
        plan = state.plan
        best = value.index(max(value))
        index = state.pick
        reason = Reason.BEST
        if best != index:
            gain = self._margin * (1.0 + 2.0 * (_TOKENS - state.tokens))
            if state.tokens >= 1.0 and value[best] - value[index] > gain:
                state.tokens -= 1.0
                state.pick = index = best
                state.hint = 0.0
            else:
                reason = Reason.STAY
        if max(on_time) <= self._floor:
            index, reason = plan.cheapest, Reason.FLOOR
        if self._duty_cycle < 1.0 or state.battery:
            allowed = self._affordable(state, index, value)
            if allowed != index:
                return allowed, Reason.BUDGET
        if queue >= 2 and plan.air[index] > plan.air[current]:
            return current, Reason.QUEUE
        state.probe -= 1
        if state.probe <= 0 and index == current and reason is not Reason.FLOOR and queue == 0:
            index, reason = self._look_up(state, index, reason)
        return index, reason

    def _affordable(self, state: DeviceState, index: int, value: list[float]) -> int:
        """`index`, or the best width that battery and duty cycle allow; the cheapest if none does."""
        plan = state.plan
        if 0 < state.battery <= self._low_battery:
            return plan.cheapest
        if self._duty_cycle >= 1.0 or not state.interval:
            return index
        most = self._duty_cycle * state.interval / exp(state.x) + CUSTODY_AIR + ANSWER_AIR
        if plan.air[index] <= most:
            return index
        fits = [w for w, bytes_ in enumerate(plan.air) if bytes_ <= most]
        return max(fits, key=value.__getitem__, default=plan.cheapest)

    def _look_up(self, state: DeviceState, index: int, reason: Reason) -> tuple[int, Reason]:
        """The next better width for once, if it is within reach and this one is safe."""
        plan, memory = state.plan, state.memory
        upper = plan.dearer[index]
        limit = plan.limit[upper] if upper >= 0 else None
        here = memory[BINS + index]
        if limit is None or here < 0.9 or limit - state.x < _WITHIN_REACH:
            state.probe = self._patience
            return index, reason
        state.probe, state.probing = self._patience, upper
        return upper, Reason.PROBE
