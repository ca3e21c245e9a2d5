"""What a recipe is compared with: rows of every kind, whose figures are what the models do."""

import dataclasses
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch (pip install 'slimwire[train]')")

from models.records import KINDS, read  # noqa: E402
from training.frontier import full_model, head_macs, macs, versions  # noqa: E402
from training.loop import Machine  # noqa: E402
from training.nets import ResNet8  # noqa: E402
from training.pipeline import Job, Stages  # noqa: E402
from training.recipe import Rivals  # noqa: E402
from training.recipes import RECIPES, RIVALS  # noqa: E402
from training.workers import through_codec  # noqa: E402


@pytest.fixture(scope="module")
def rivals(ensemble):
    return Rivals(jpeg=(30,), webp=(20,), bottleneck=(1, 3), ensemble=ensemble.layers, members=2)


@pytest.fixture(scope="module")
def compared(tiny, tiny_data, rivals, tmp_path_factory):
    """(data of the records, rows by name, work directory) after a teacher, a model and its rivals."""
    recipe = dataclasses.replace(tiny[0], epochs=4)
    work = tmp_path_factory.mktemp("work")
    job = Job(recipe, seed=1, work=work, out=work / "out", command="", rivals=rivals)
    stages = Stages(job, tiny_data, Machine())
    stages.run()
    stages.compare(rivals)
    data, rows = read(work / "records.npz")
    return data, {row.row: row for row in rows}, work


def test_there_are_rows_of_every_kind(compared):
    data, rows, _ = compared
    assert data == {"name": "tiny", "source": "drawn", "split": "test", "n": 128}
    assert {row.kind for row in rows.values()} == set(KINDS) - {"ours"}
    assert {row.row for row in rows.values()} == {
        *("slimmable-0.5", "slimmable-1", "ensemble-0.5", "ensemble-1", "independent-0.5", "independent-1"),
        *("bottleneck-1", "bottleneck-3", "entropic-2", "entropic-4", "jpeg-30", "webp-20"),
        *("raw", "full", "on-device", "teacher"),
    }
    assert all(row.label for row in rows.values())


def test_everything_saw_as_many_images_as_our_model(compared):
    _, rows, work = compared
    ours = json.loads((work / "stages.json").read_text())[-1]
    for name, row in rows.items():
        if name != "teacher":
            assert (row.epochs, row.images_seen) == (ours["epochs"], ours["images"])


def test_bytes_are_what_each_form_sends(compared, tiny_data):
    _, rows, _ = compared
    assert (rows["bottleneck-3"].coded == 3 * 2 * 2).all()  # a byte for each value of its 2×2 latent
    assert (rows["raw"].coded == 64).all()
    assert (rows["full"].coded == 64).all()
    assert (rows["on-device"].coded == 1).all()
    assert rows["slimmable-0.5"].coded.mean() < 8
    assert len(np.unique(rows["jpeg-30"].coded)) > 1
    assert rows["raw"].top1 == rows["full"].top1


def test_the_full_model_is_noted_for_the_card(compared, tiny):
    _, rows, work = compared
    full = json.loads((work / "full.json").read_text())
    assert full == {
        "top1": rows["full"].top1,
        "macs": macs(full_model(tiny[0], 4), torch.zeros(1, 1, 8, 8)),
        "teacher_top1": rows["teacher"].top1,
        "epochs": 4,
    }


def test_comparing_again_does_nothing(compared, tiny, tiny_data, rivals):
    _, _, work = compared
    before = (work / "records.npz").stat().st_mtime_ns
    job = Job(tiny[0], seed=1, work=work, out=work / "out", command="")
    Stages(job, tiny_data, Machine()).compare(rivals)
    assert (work / "records.npz").stat().st_mtime_ns == before


def test_codecs_change_images_and_say_how_many_bytes(tiny_data, rivals):
    found = versions(tiny_data.test_x, rivals, jobs=1)
    assert set(found) == {"clean", "jpeg-30", "webp-20"}
    for images, sizes in found.values():
        assert images.shape == tiny_data.test_x.shape
        assert sizes.shape == (len(images),)
    assert (found["clean"][0] == tiny_data.test_x).all()
    assert (found["jpeg-30"][0] != tiny_data.test_x).any()


def test_macs_are_counted_as_the_papers_do():
    """MLPerf Tiny's ResNet-8 has 12.5 million on a 32×32 colour image, 78 thousand weights."""
    net = ResNet8(3, 10)
    assert macs(net, torch.zeros(1, 3, 32, 32)) == pytest.approx(12.5e6, rel=0.01)
    assert sum(p.numel() for p in net.parameters() if p.ndim > 1) == pytest.approx(78e3, rel=0.02)


@pytest.mark.parametrize("name", RECIPES)
def test_heads_of_our_recipes_are_small_enough(name):
    recipe = RECIPES[name]
    work = [head_macs(recipe, width) for width in range(len(recipe.widths))]
    assert work == sorted(work)
    assert work[-1] <= 1_300_000


@pytest.mark.parametrize("name", RIVALS)
def test_an_ensemble_is_compared_at_the_same_work(name):
    recipe = RECIPES[name]
    ensemble = dataclasses.replace(recipe, layers=RIVALS[name].ensemble, members=RIVALS[name].members)
    last = len(recipe.widths) - 1
    assert head_macs(ensemble, last) <= 1.1 * head_macs(recipe, last)


def test_an_ensembles_zeros_are_not_counted(ensemble):
    # 4×4×9·8 for the first layer, then one or two encoders of 2×2×9·4·8, then 2×2·16·4
    assert head_macs(ensemble, 1) == 16 * 9 * 8 + 2 * 4 * 9 * 4 * 8 + 4 * 16 * 4


def test_several_processes_do_what_one_does(tiny_data):
    x = tiny_data.test_x[:9]
    for one, other in zip(through_codec(x, "jpeg", 30, 1), through_codec(x, "jpeg", 30, 2), strict=True):
        assert (one == other).all()
