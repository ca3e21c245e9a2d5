"""Counts the multiply-accumulates of a LiteRT model, from its flatbuffer."""

from __future__ import annotations

import math
import struct
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from models.errors import BundleError

_CONVOLUTION = schema.BuiltinOperator.CONV_2D
_DEPTHWISE = schema.BuiltinOperator.DEPTHWISE_CONV_2D
_CONNECTED = schema.BuiltinOperator.FULLY_CONNECTED


def macs(model: bytes) -> int:
    """Multiply-accumulates of one input: convolutions, depthwise ones and fully connected layers.

    Padding counts as work; sums, poolings and activations are not counted. Raises BundleError when it is no
    LiteRT model.
    """
    try:
        parsed = schema.ModelT.InitFromPackedBuf(model, 0)
        graph = parsed.subgraphs[0]
        return sum(_of(parsed, graph, operator) for operator in graph.operators)
    except (LookupError, ValueError, TypeError, AttributeError, OverflowError, struct.error) as error:
        raise BundleError(f"the model can't be read ({error}); expected a LiteRT model") from error


def _of(parsed: Any, graph: Any, operator: Any) -> int:
    code = parsed.operatorCodes[operator.opcodeIndex]
    # models written before 2020 have the one field alone, later ones both
    kind = max(code.builtinCode, code.deprecatedBuiltinCode)
    if kind not in (_CONVOLUTION, _DEPTHWISE, _CONNECTED):
        return 0
    weights = [int(size) for size in graph.tensors[operator.inputs[1]].shape]
    outputs = [int(size) for size in graph.tensors[operator.outputs[0]].shape]
    if kind == _CONVOLUTION:  # weights (out, height, width, in)
        return math.prod(outputs[1:]) * math.prod(weights[1:])
    if kind == _DEPTHWISE:  # weights (1, height, width, out)
        return math.prod(outputs[1:]) * weights[1] * weights[2]
    return math.prod(outputs[:-1]) * math.prod(weights)
