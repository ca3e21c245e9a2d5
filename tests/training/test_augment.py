"""Augmentation moves and mirrors, and nothing else."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch (pip install 'slimwire[train]')")

from training.augment import Views, erase, pad  # noqa: E402


def variants(image, shift, flip):
    """Every image that may come of one."""
    height, width, _ = image.shape
    padded = np.pad(image, ((shift, shift), (shift, shift), (0, 0)))
    moved = [
        padded[top : top + height, left : left + width]
        for top in range(2 * shift + 1)
        for left in range(2 * shift + 1)
    ]
    return {one.tobytes() for one in moved} | ({one[:, ::-1].tobytes() for one in moved} if flip else set())


def seen(images, shift, flip, seed=0):
    """One random view of each image: (N,H,W,C) uint8."""
    generator = torch.Generator().manual_seed(seed)
    views = Views.draw(torch.arange(len(images)), shift, flip, generator)
    found = views.of(pad(torch.from_numpy(images), shift), *images.shape[1:3])
    assert found.dtype == torch.float32
    return found.permute(0, 2, 3, 1).numpy().astype(np.uint8)


@pytest.mark.parametrize("flip", [False, True])
def test_views_are_moved_or_mirrored_images(flip):
    image = np.random.default_rng(0).integers(1, 256, (6, 5, 2)).astype(np.uint8)
    out = seen(np.repeat(image[None], 400, 0), shift=1, flip=flip)
    assert {one.tobytes() for one in out} == variants(image, 1, flip)


def test_the_seed_fixes_the_views():
    x = np.random.default_rng(1).integers(0, 256, (20, 8, 8, 1)).astype(np.uint8)
    assert (seen(x, 2, True, seed=5) == seen(x, 2, True, seed=5)).all()
    assert (seen(x, 2, True, seed=5) != seen(x, 2, True, seed=6)).any()


def test_the_same_views_can_be_taken_of_another_version():
    """A network for JPEG images and the teacher, which sees clean ones, look at the same place."""
    x = np.random.default_rng(2).integers(0, 128, (50, 6, 6, 1)).astype(np.uint8)
    views = Views.draw(torch.arange(50), 2, True, torch.Generator().manual_seed(0))
    one, other = (views.of(pad(torch.from_numpy(version), 2), 6, 6) for version in (x, x * 2))
    assert torch.equal(other, one * 2)


def test_erasing_blackens_one_rectangle_in_some_images():
    x = torch.full((200, 2, 10, 12), 9.0)
    out = erase(x, share=0.5, largest=4, generator=torch.Generator().manual_seed(0)).numpy()
    assert (out[:, 0] == out[:, 1]).all(), "all channels of a place are gone, or none"
    touched = [image[0] == 0 for image in out if (image == 0).any()]
    assert 60 < len(touched) < 140
    for mask in touched:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert max(len(rows), len(columns)) <= 4
