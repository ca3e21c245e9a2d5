"""A tiny model learns, resumes exactly, heeds its byte targets, and exports to the same numbers."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch (pip install 'slimwire[train]')")

from dataclasses import replace  # noqa: E402

from models.head import Head  # noqa: E402
from models.headfile import HeadFile  # noqa: E402
from slimwire.errors import SlimwireError  # noqa: E402
from training.export import export_head  # noqa: E402
from training.loop import Model, in_symbol_order, target_factor, train, validate  # noqa: E402
from training.teacher import TeacherPlan, to_tensor, train_teacher  # noqa: E402


def soft_labels(y):
    return (0.9 * np.eye(4, dtype=np.float32)[y] + 0.025).astype(np.float32)


@pytest.fixture
def trained(tiny, tmp_path):
    recipe, split = tiny
    torch.set_num_threads(1)
    return train(recipe, split, soft_labels(split.train_y), 1, False, tmp_path / "model.pt"), split


def test_it_learns_at_every_width(trained):
    model, split = trained
    for top1, size in validate(model, split.valid_x, split.valid_y, False):
        assert top1 > 0.8  # chance is 0.25
        assert size > 0


def test_a_stopped_run_goes_on_to_the_same_weights(tiny, trained, tmp_path):
    recipe, split = tiny
    whole, _ = trained
    soft, path = soft_labels(split.train_y), tmp_path / "stopped.pt"

    class StoppedError(Exception):
        pass

    def stop_in_the_third_epoch(*_):
        if torch.load(path, weights_only=True)["epoch"] == 2:
            raise StoppedError

    with pytest.MonkeyPatch.context() as patch:
        real = torch.nn.utils.clip_grad_norm_

        def clip(*arguments):
            if path.exists():
                stop_in_the_third_epoch()
            return real(*arguments)

        patch.setattr(torch.nn.utils, "clip_grad_norm_", clip)
        with pytest.raises(StoppedError):
            train(recipe, split, soft, 1, False, path)
    resumed = train(recipe, split, soft, 1, False, path)
    for (name, one), (_, other) in zip(whole.state_dict().items(), resumed.state_dict().items(), strict=True):
        assert torch.equal(one, other), name


def test_the_integer_head_computes_what_was_trained(trained):
    model, split = trained
    model.eval()
    head = export_head(model.head, model.recipe, split.train_x)
    assert HeadFile.parse(head.emit()).emit() == head.emit()
    for width in range(2):
        with torch.no_grad():
            latent = in_symbol_order(model.head(to_tensor(split.valid_x), width))
        expected = (latent.round() + model.recipe.center).clamp(0, model.recipe.levels - 1).numpy()
        found = Head(head).run(split.valid_x, width)
        # rounding of multipliers may move a value that lies on the edge between two symbols
        assert np.abs(found - expected).max() <= 1
        assert (found != expected).mean() < 0.03


def test_a_head_that_does_not_fit_the_format_is_refused(trained):
    model, split = trained
    with torch.no_grad():
        model.head.layers[1].gain[0].fill_(1e9)
    with pytest.raises(SlimwireError, match=r"layer 1 at width 0.5 has a factor of"):
        export_head(model.head, model.recipe, split.train_x)


@pytest.mark.parametrize(("mean", "rises"), [(0.5, True), (500.0, False)])
def test_the_price_of_a_byte_moves_towards_the_target(tiny, tmp_path, mean, rises):
    recipe, split = tiny
    targets = tuple(replace(target, mean=mean, limit=1000) for target in recipe.targets)
    recipe = replace(recipe, targets=targets, epochs=1, ramp_from=1.0)
    start = float(Model(recipe, 4).log_beta[0])
    model = train(recipe, split, soft_labels(split.train_y), 1, False, tmp_path / "model.pt")
    assert (float(model.log_beta[0]) > start) == rises


def test_byte_targets_ramp_down(tiny):
    recipe, _ = tiny
    factors = [target_factor(recipe, progress) for progress in (0, recipe.ramp / 2, recipe.ramp, 1)]
    assert factors[0] == recipe.ramp_from
    assert factors[0] > factors[1] > factors[2] == factors[3] == 1


def test_the_teacher_learns_and_resumes(tiny, tmp_path):
    _, split = tiny
    plan = TeacherPlan(epochs=1, batch=64, rate=0.05)
    answers = train_teacher(split, plan, 1, False, tmp_path / "teacher.pt")
    assert answers.shape == (512, 4)
    assert np.allclose(answers.sum(1), 1, atol=1e-4)
    again = train_teacher(split, plan, 1, False, tmp_path / "teacher.pt")
    assert np.array_equal(answers, again), "a finished teacher was trained again"
