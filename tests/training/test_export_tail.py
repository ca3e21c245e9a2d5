"""The exported tail answers like the trained one, at any batch size."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch (pip install 'slimwire[train]')")
pytest.importorskip("litert_torch", reason="needs litert-torch (pip install 'slimwire[train]')")

from models.head import Head  # noqa: E402
from models.tail import Tail  # noqa: E402
from training.bundle_writer import latents_of  # noqa: E402
from training.export import export_head  # noqa: E402
from training.export_tail import export_tail  # noqa: E402
from training.loop import Machine, Plan, Trainer, train  # noqa: E402
from training.slim_learner import SlimLearner  # noqa: E402


def test_the_int8_tail_answers_like_the_trained_one(tiny):
    recipe, split = tiny
    torch.manual_seed(1)
    model = SlimLearner("slimmable", recipe, 4)
    plan = Plan(6, 32, recipe.rate, recipe.weight_decay, 1, False, 0.2, seed=1, widths=2)
    trainer = Trainer([model], {"clean": split.train_x}, split.train_y, None, plan, Machine())
    train(trainer, None, lambda _: "")
    model.eval()
    head = export_head(model.head, recipe, split.train_x)
    tail = Tail(export_tail(model.tail, latents_of(head, split.train_x[:50])), head, 4)
    symbols = [(i, row) for i in range(2) for row in Head(head).run(split.valid_x, i)]
    with torch.no_grad():
        latents = torch.from_numpy(latents_of(head, split.valid_x)).permute(0, 3, 1, 2)
        expected = model.tail(latents).numpy()
    found = tail.run(symbols)
    assert (found.argmax(1) == expected.argmax(1)).mean() > 0.95
    assert np.abs(found - expected).mean() < 0.1 * np.abs(expected).mean() + 0.1
