"""Multiply-accumulates of a LiteRT model, against ones known by hand and the head file's own count."""

import numpy as np
import pytest

from models.bundle import Bundle
from models.errors import BundleError
from models.litert_head import build
from models.tflite_macs import macs
from tests.edge_server.tiny import tail_model


def test_a_fully_connected_layer_has_as_many_as_it_has_weights():
    assert macs(tail_model(np.zeros((3, 4 * 4 * 2), np.float32), (4, 4, 2))) == 3 * 32


def test_a_head_s_convolutions_are_counted_as_the_head_file_counts_them():
    head = Bundle.load("fashion-mnist").headfile
    for index in range(len(head.widths)):
        assert macs(build(head, index)) == head.macs(index)


@pytest.mark.parametrize("model", [b"", b"not a model", bytes(64)])
def test_what_is_no_model_is_refused(model):
    with pytest.raises(BundleError, match="expected a LiteRT model"):
        macs(model)
