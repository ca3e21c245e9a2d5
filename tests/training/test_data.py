"""Augmentation moves and mirrors, and nothing else."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch (pip install 'slimwire[train]')")

from training.data import augment, erase


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


@pytest.mark.parametrize("flip", [False, True])
def test_augmented_images_are_moved_or_mirrored_ones(flip):
    rng = np.random.default_rng(0)
    image = rng.integers(1, 256, (6, 5, 2)).astype(np.uint8)
    out = augment(np.repeat(image[None], 400, 0), rng, shift=1, flip=flip)
    assert {one.tobytes() for one in out} == variants(image, 1, flip)


def test_the_seed_fixes_the_augmentation():
    x = np.random.default_rng(1).integers(0, 256, (20, 8, 8, 1)).astype(np.uint8)
    first, second = (augment(x, np.random.default_rng(5), 2, True) for _ in range(2))
    assert (first == second).all()


def test_erasing_blackens_one_rectangle_in_some_images():
    x = np.full((200, 10, 12, 1), 9, np.uint8)
    erase(x, np.random.default_rng(0), share=0.5, largest=4)
    touched = [image[..., 0] == 0 for image in x if (image == 0).any()]
    assert 60 < len(touched) < 140
    for mask in touched:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert max(len(rows), len(columns)) <= 4
