"""A tiny model learns, resumes exactly, heeds its byte targets, and exports to the same numbers."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch (pip install 'slimwire[train]')")

from models.head import Head  # noqa: E402
from models.headfile import HeadFile  # noqa: E402
from slimwire.errors import SlimwireError  # noqa: E402
from training.export import export_head  # noqa: E402
from training.learner import TeacherLearner  # noqa: E402
from training.loop import Machine, Plan, Trainer, learning_rate, outcomes, top1, train  # noqa: E402
from training.recipe import Target  # noqa: E402
from training.slim_learner import Coding, SlimLearner, figures, in_symbol_order, target_factor  # noqa: E402
from training.trim import TrimLearner  # noqa: E402

MACHINE = Machine()  # float32: what is compared here is compared to the bit


def plan_for(recipe, **changes):
    plan = Plan(
        epochs=recipe.epochs,
        batch=recipe.batch,
        rate=recipe.rate,
        weight_decay=recipe.weight_decay,
        shift=recipe.shift,
        flip=recipe.flip,
        settle=recipe.settle,
        seed=1,
        widths=len(recipe.widths),
    )
    return replace(plan, **changes)


def learn(learner, split, teacher=None, path=None, **changes):
    """Trains a learner on a split; returns it."""
    torch.manual_seed(7)
    trainer = Trainer(
        [learner],
        {"clean": split.train_x},
        split.train_y,
        teacher,
        plan_for(learner.recipe, **changes),
        MACHINE,
    )
    train(trainer, path, lambda one: figures(one, split.valid_x, split.valid_y, MACHINE))
    return learner


@pytest.fixture(scope="module")
def teacher(tiny):
    recipe, split = tiny
    torch.manual_seed(0)
    learner = TeacherLearner(recipe, 4)
    learn(learner, split, epochs=6, rate=0.1, momentum=True)
    assert top1(outcomes(learner, split.valid_x, MACHINE)[0], split.valid_y) > 0.9
    return learner.net.requires_grad_(False)


@pytest.fixture(scope="module")
def trained(tiny, teacher):
    """The tiny model after both of its stages."""
    recipe, split = tiny
    torch.manual_seed(1)
    return learn(SlimLearner("slimmable", recipe, 4, Coding(staged=True)), split, teacher).eval()


def test_it_learns_at_every_width_and_meets_its_targets(tiny, trained):
    recipe, split = tiny
    for width, outcome in enumerate(outcomes(trained, split.valid_x, MACHINE)):
        assert top1(outcome, split.valid_y) > 0.8  # chance is 0.25
        size = float(trained.prior(width).symbol_bits(outcome.symbols).mean()) / 8
        assert 0 < size < 1.3 * recipe.targets[width].mean


def test_trimming_makes_the_widest_smaller_and_leaves_the_others_bit_for_bit(tiny, teacher, trained):
    recipe, split = tiny
    trimmed = TrimLearner("slimmable", replace(recipe, price_gain=4.0), 4, Target(2.6, 5.0))
    trimmed.start_from(trained)
    before = outcomes(trained, split.valid_x, MACHINE)
    learn(trimmed, split, teacher, epochs=6, rate=1e-2, weight_decay=0.0)
    after = outcomes(trimmed, split.valid_x, MACHINE)
    assert torch.equal(after[0].symbols, before[0].symbols)
    assert torch.equal(after[0].logits, before[0].logits)
    size = [
        float(model.prior(1).symbol_bits(outcome.symbols).mean()) / 8
        for model, outcome in ((trained, before[1]), (trimmed, after[1]))
    ]
    assert size[1] < 0.9 * size[0]
    assert top1(after[1], split.valid_y) > 0.8
    for name, tensor in trained.tail.state_dict().items():
        assert torch.equal(trimmed.tail.state_dict()[name], tensor), name


def test_in_the_second_stage_the_head_stays_as_it_is(tiny, teacher):
    recipe, split = tiny
    seen = []

    class Watched(SlimLearner):
        def enter(self, phase):
            seen.append((phase.second, [p.detach().clone() for p in self.head.parameters()], self.head))
            super().enter(phase)

    torch.manual_seed(1)
    model = learn(Watched("slimmable", recipe, 4, Coding(staged=True)), split, teacher, epochs=4)
    first, second = seen[0], next(entry for entry in seen if entry[0])
    now = list(model.head.parameters())
    assert not all(torch.equal(a, b) for a, b in zip(first[1], now, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(second[1], now, strict=True))


class StoppedError(Exception):
    pass


def test_a_stopped_run_goes_on_to_the_same_weights(tiny, teacher, trained, tmp_path):
    recipe, split = tiny
    path = tmp_path / "staged.pt"

    def fresh():
        torch.manual_seed(1)
        return SlimLearner("slimmable", recipe, 4, Coding(staged=True))

    with pytest.MonkeyPatch.context() as patch:
        real = torch.nn.utils.clip_grad_norm_

        def clip(*arguments, **options):
            if path.exists() and torch.load(path, weights_only=True)["epoch"] == 7:
                raise StoppedError
            return real(*arguments, **options)

        patch.setattr(torch.nn.utils, "clip_grad_norm_", clip)
        with pytest.raises(StoppedError):
            learn(fresh(), split, teacher, path)
    resumed = learn(fresh(), split, teacher, path)
    for (name, one), (_, other) in zip(
        trained.state_dict().items(), resumed.state_dict().items(), strict=True
    ):
        assert torch.equal(one, other), name


def same_symbols(model, split):
    """The exported integer head gives what the trained one does, but for the rounding of its multipliers."""
    recipe = model.recipe
    head = export_head(model.head, recipe, split.train_x)
    assert HeadFile.parse(head.emit()).emit() == head.emit()
    for width in range(len(recipe.widths)):
        with torch.no_grad():
            images = torch.from_numpy(split.valid_x).permute(0, 3, 1, 2).float()
            latent = in_symbol_order(model.head(images, width))
        expected = (latent.round() + recipe.center).clamp(0, recipe.levels - 1).numpy()
        assert len(np.unique(expected)) > 2
        found = Head(head).run(split.valid_x, width)
        # a value that lies on the edge between two symbols may move
        assert np.abs(found - expected).max() <= 1
        assert (found != expected).mean() < 0.03
    return head


def test_the_integer_head_computes_what_was_trained(tiny, trained):
    same_symbols(trained, tiny[1])


def test_an_ensemble_learns_and_ships_as_one_head(tiny, teacher, ensemble):
    _, split = tiny
    torch.manual_seed(1)
    model = learn(SlimLearner("ensemble", ensemble, 4, Coding(staged=True)), split, teacher).eval()
    for outcome in outcomes(model, split.valid_x, MACHINE):
        assert top1(outcome, split.valid_y) > 0.8
    head = same_symbols(model, split)
    inner = head.layer_weights(1)  # [out][ky][kx][in], two encoders of 8 channels from 4
    assert not inner[:8, :, :, 4:].any()
    assert not inner[8:, :, :, :4].any()
    assert inner[:8, :, :, :4].any()
    assert inner[8:, :, :, 4:].any()


def test_the_latent_of_an_ensemble_is_the_sum_of_its_encoders(ensemble):
    """Before the last layer's batch norm: each encoder adds its part, and no more."""
    torch.manual_seed(3)
    head = SlimLearner("ensemble", ensemble, 4).head.eval()
    x = torch.randint(0, 256, (5, 1, 8, 8)).float()
    first, second, last = head.layers
    hidden = second(first(x, 1), 1)
    weight = last.quantised_weight().detach()
    both = torch.nn.functional.conv2d(hidden, weight)
    parts = [
        torch.nn.functional.conv2d(hidden[:, part], weight[:, part]) for part in (slice(0, 8), slice(8, 16))
    ]
    assert torch.allclose(both, sum(parts), rtol=1e-5)
    alone = second(first(x, 0), 0)
    assert torch.equal(alone, hidden[:, :8]), "the narrow width is the first encoder by itself"


def test_a_head_that_does_not_fit_the_format_is_refused(tiny, trained):
    _, split = tiny
    model = SlimLearner("slimmable", trained.recipe, 4)
    model.load_state_dict(trained.state_dict())
    with torch.no_grad():
        model.head.layers[1].gain[0].fill_(1e9)
    with pytest.raises(SlimwireError, match=r"layer 1 at width 0.5 has a factor of"):
        export_head(model.eval().head, model.recipe, split.train_x)


@pytest.mark.parametrize(("mean", "rises"), [(0.5, True), (500.0, False)])
def test_the_price_of_a_byte_moves_towards_the_target(tiny, teacher, mean, rises):
    recipe, split = tiny
    targets = tuple(replace(target, mean=mean, limit=1000) for target in recipe.targets)
    recipe = replace(recipe, targets=targets, ramp_from=1.0)
    model = SlimLearner("slimmable", recipe, 4, Coding(staged=True))
    start = float(model.log_beta[0])
    learn(model, split, teacher, epochs=2)
    assert (float(model.log_beta[0]) > start) == rises


def test_byte_targets_ramp_down(tiny):
    recipe, _ = tiny
    factors = [
        float(target_factor(recipe, torch.tensor(progress)))
        for progress in (0, recipe.ramp / 2, recipe.ramp, 1)
    ]
    assert factors[0] == recipe.ramp_from
    assert factors[0] > factors[1] > factors[2] == factors[3] == 1


def test_the_learning_rate_warms_up_and_falls():
    rates = [learning_rate(1.0, step, 1000) for step in range(1000)]
    assert rates[0] < rates[10] < rates[19] == 1.0
    assert all(before >= after for before, after in pairwise(rates[20:]))
    assert rates[-1] == pytest.approx(0.01, abs=1e-4)


def test_a_time_limit_cuts_the_epochs(tiny, teacher, tmp_path):
    recipe, split = tiny
    model, path = SlimLearner("slimmable", recipe, 4, Coding(staged=True)), tmp_path / "staged.pt"
    learn(model, split, teacher, path, epochs=1000, seconds=0.01)
    # two epochs show how long one takes; with nothing left there is one more
    assert torch.load(path, weights_only=True)["epoch"] == 3
    assert math.isfinite(float(model.log_beta[0]))
