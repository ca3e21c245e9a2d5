"""The shipped heads over what their cameras show, at every width: two implementations, no differing byte."""

import pytest

from models.bundle import Bundle, shipped
from models.errors import DataMissingError
from models.head import Head
from models.litert_head import LiteRtHead, build
from wire.rans import decode_batch, encode


@pytest.fixture(scope="module", params=shipped())
def bundle(request):
    return Bundle.load(request.param)


@pytest.mark.parametrize("width_index", range(4))
def test_numpy_equals_litert_reference_and_symbols_survive_the_coder(bundle, width_index):
    images = bundle.pictures().x
    headfile = bundle.headfile
    symbols = Head(headfile).run(images, width_index)
    oracle = LiteRtHead(build(headfile, width_index), headfile.levels, headfile.center, reference=True)
    assert int((oracle.run(images) != symbols).sum()) == 0
    tables = headfile.widths[width_index].tables
    decoded = decode_batch([encode(row, tables) for row in symbols], tables)
    assert all((row == back).all() for row, back in zip(symbols, decoded, strict=True))


@pytest.mark.parametrize("width_index", range(4))
def test_coded_bytes_on_the_camera_are_near_the_bundle_s_figure(bundle, width_index):
    try:
        images, _ = bundle.camera()
    except DataMissingError as error:
        pytest.skip(str(error))
    tables = bundle.headfile.widths[width_index].tables
    sizes = [len(encode(row, tables)) for row in Head(bundle.headfile).run(images, width_index)]
    figure = bundle.widths[width_index]["bytes"]
    assert sum(sizes) / len(sizes) == pytest.approx(figure["mean"], rel=0.05)
    assert max(sizes) <= figure["max"]
