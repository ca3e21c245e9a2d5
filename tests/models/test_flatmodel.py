"""The model file that we write, as LiteRT's own generated classes read it."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from models.headfile import DEPTHWISE
from models.litert_head import build
from tests.models.conftest import random_headfile


def test_the_formats_own_classes_read_what_was_written():
    head = random_headfile(3, (7, 6, 2))
    data = build(head, 1)
    assert data[4:8] == b"TFL3"
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    assert model.version == 3
    (graph,) = model.subgraphs
    assert [graph.tensors[i].name for i in (graph.inputs[0], graph.outputs[0])] == [b"image", b"latent"]
    assert len(graph.operators) == len(head.layers)
    for i, (operator, layer) in enumerate(zip(graph.operators, head.layers, strict=True)):
        code = model.operatorCodes[operator.opcodeIndex]
        options = operator.builtinOptions
        if layer.op == DEPTHWISE:
            assert code.builtinCode == schema.BuiltinOperator.DEPTHWISE_CONV_2D
            assert options.depthMultiplier == 1
        else:
            assert code.builtinCode == schema.BuiltinOperator.CONV_2D
        assert (options.strideH, options.strideW) == (layer.stride, layer.stride)
        assert (options.dilationHFactor, options.dilationWFactor) == (1, 1)
        assert options.padding == schema.Padding.SAME
        weights, bias = (graph.tensors[j] for j in operator.inputs[1:])
        assert len(weights.quantization.scale) == head.widths[1].out_channels[i]
        assert weights.quantization.quantizedDimension == (3 if layer.op == DEPTHWISE else 0)
        stored = np.asarray(model.buffers[bias.buffer].data, np.uint8).tobytes()
        assert stored == head.widths[1].bias[i].astype("<i4").tobytes()


def test_constants_are_aligned_for_the_kernels():
    data = build(random_headfile(7), 0)
    model = schema.Model.GetRootAs(data, 0)
    for i in range(model.BuffersLength()):
        buffer = model.Buffers(i)
        if buffer.DataLength():
            start = buffer.DataAsNumpy().ctypes.data - np.frombuffer(data, np.uint8).ctypes.data
            assert start % 16 == 0
