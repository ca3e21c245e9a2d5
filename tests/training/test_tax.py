"""The slimming tax: each width's slice is the width itself, and learns on as long as the model does."""

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="training needs torch (pip install 'slimwire[train]')")

from training.learner import TeacherLearner  # noqa: E402
from training.loop import Machine, Plan, Trainer, outcomes, train  # noqa: E402
from training.slim_learner import SlimLearner, figures  # noqa: E402
from training.tax import alone, tax_records  # noqa: E402

MACHINE = Machine()


@pytest.fixture(scope="module")
def plan(tiny):
    recipe, _ = tiny
    return Plan(
        epochs=2,
        batch=recipe.batch,
        rate=2e-3,
        weight_decay=0.0,
        shift=1,
        flip=False,
        settle=0.5,
        seed=3,
        widths=len(recipe.widths),
    )


@pytest.fixture(scope="module")
def model(tiny, plan):
    """A model after two epochs, so that no number of it is the one that it began with."""
    recipe, split = tiny
    torch.manual_seed(4)
    learner = SlimLearner("slimmable", replace(recipe, ramp_from=1.0), 4)
    trainer = Trainer([learner], {"clean": split.train_x}, split.train_y, None, plan, MACHINE)
    train(trainer, None, lambda one: figures(one, split.valid_x, split.valid_y, MACHINE))
    return learner.eval()


def test_a_slice_is_its_width_with_a_head_and_tail_of_its_own(tiny, model):
    _, split = tiny
    whole = outcomes(model, split.valid_x, MACHINE)
    widest = alone(model, 1, 4)
    (own,) = outcomes(widest, split.valid_x, MACHINE)
    assert torch.equal(own.symbols, whole[1].symbols)
    assert torch.allclose(own.logits, whole[1].logits, atol=1e-5)
    assert torch.equal(widest.prior(0).symbol_bits(own.symbols), model.prior(1).symbol_bits(own.symbols))

    narrow = alone(model, 0, 4)
    (own,) = outcomes(narrow, split.valid_x, MACHINE)
    assert narrow.recipe.targets == (model.recipe.targets[0],)
    # Rows whose largest weight only the wider width used are rounded in finer steps.
    assert (own.symbols == whole[0].symbols).float().mean() > 0.9
    with torch.no_grad():
        narrow.tail.entry[0][0].weight.zero_()
    assert model.tail.entry[0][0].weight.any(), "a slice shares no memory with the model"


def test_model_and_slices_learn_on_for_as_many_images(tiny, tiny_data, plan, model):
    recipe, _ = tiny
    torch.manual_seed(5)
    teacher = TeacherLearner(recipe, 4).net.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rows = tax_records(model, teacher, tiny_data, plan, MACHINE, seen=1000, jobs=1)
    assert [(row.row, row.kind, row.setting) for row in rows] == [
        ("slimmable-further-0.5", "slimmable", "0.5"),
        ("slimmable-further-1", "slimmable", "1"),
        ("independent-further-0.5", "independent", "0.5"),
        ("independent-further-1", "independent", "1"),
    ]
    assert {row.images_seen for row in rows} == {1000 + 2 * 512}
    assert {row.command for row in rows} == {"slimwire train --recipe tiny --seed 3 --tax 2"}
    for row in rows:
        assert row.right.shape == row.coded.shape == tiny_data.test_y.shape
    assert not torch.equal(model.state_dict()["head.layers.0.weight"], before["head.layers.0.weight"])
