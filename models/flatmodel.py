"""Writes int8 convolution models in the TensorFlow Lite file format, without the format's generated classes.

Those come with ai-edge-litert only; `flatbuffers`, which this needs, runs beside any interpreter. Field
numbers are those of TensorFlow's `schema.fbs`, version 3: a table's fields count from 0 in the order that it
declares them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt

_SCHEMA_VERSION = 3
_IDENTIFIER = b"TFL3"
_INT32, _INT8 = 2, 9  # TensorType
_CONV_2D, _DEPTHWISE_CONV_2D = 3, 4  # BuiltinOperator
_CONV_OPTIONS, _DEPTHWISE_OPTIONS = 1, 2  # BuiltinOptions
_OPERATOR_VERSION = 3  # int8 with a scale for each channel
_ALIGNMENT = 16  # of buffers, for the kernels


@dataclass(frozen=True)
class _Tensor:
    name: str
    shape: tuple[int, ...]
    kind: int
    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int64]
    axis: int
    buffer: int


@dataclass(frozen=True)
class _Convolution:
    depthwise: bool
    stride: int
    inputs: tuple[int, int, int]
    output: int


class ModelWriter:
    """Collects tensors and convolutions of a model with one subgraph, and packs them.

    Tensors are named by the numbers that `activation` and `constant` return.
    """

    def __init__(self) -> None:
        self._tensors: list[_Tensor] = []
        self._convolutions: list[_Convolution] = []
        self._buffers: list[bytes] = [b""]  # the first one is empty, for tensors without constant values

    def activation(self, name: str, shape: tuple[int, ...], zero_point: int) -> int:
        """An int8 tensor of scale 1 whose first dimension may be resized."""
        return self._tensor(name, shape, _INT8, np.ones(1), np.array([zero_point]), 0, 0)

    def constant(self, name: str, values: npt.NDArray[Any], scale: npt.NDArray[np.float64], axis: int) -> int:
        """An int8 or int32 tensor with a scale for each channel of ``axis``."""
        self._buffers.append(np.ascontiguousarray(values).tobytes())
        kind = _INT8 if values.dtype == np.int8 else _INT32
        zeros = np.zeros(len(scale), np.int64)
        return self._tensor(name, values.shape, kind, scale, zeros, axis, len(self._buffers) - 1)

    def convolution(self, depthwise: bool, stride: int, operands: tuple[int, int, int], result: int) -> None:
        """A CONV_2D or DEPTHWISE_CONV_2D with SAME padding of (input, weights, bias)."""
        self._convolutions.append(_Convolution(depthwise, stride, operands, result))

    def finish(self, source: int, result: int) -> bytes:
        """The model's file, with tensor `source` as its input and `result` as its output."""
        builder = flatbuffers.Builder(1 << 16)
        codes = sorted({_code(each) for each in self._convolutions})
        parts = {
            1: _tables(builder, codes, _operator_code),
            2: _tables(builder, [codes], lambda b, c: self._subgraph(b, c, source=source, result=result)),
            3: builder.CreateString("Slimwire head"),
            4: _tables(builder, self._buffers, _buffer),
        }
        builder.StartObject(5)
        builder.PrependUint32Slot(0, _SCHEMA_VERSION, 0)
        for field, offset in parts.items():
            builder.PrependUOffsetTRelativeSlot(field, offset, 0)
        builder.Finish(builder.EndObject(), _IDENTIFIER)
        return bytes(builder.Output())

    def _tensor(
        self,
        name: str,
        shape: tuple[int, ...],
        kind: int,
        scale: npt.NDArray[np.float64],
        zero_point: npt.NDArray[np.int64],
        axis: int,
        buffer: int,
    ) -> int:
        made = _Tensor(name, shape, kind, scale.astype(np.float32), zero_point.astype(np.int64), axis, buffer)
        self._tensors.append(made)
        return len(self._tensors) - 1

    def _subgraph(self, builder: Any, codes: Sequence[int], *, source: int, result: int) -> int:
        tensors = _tables(builder, self._tensors, _write_tensor)
        operators = _tables(builder, self._convolutions, lambda b, c: _operator(b, c, codes))
        inputs, outputs = _ints(builder, (source,)), _ints(builder, (result,))
        return _table(builder, 5, {0: tensors, 1: inputs, 2: outputs, 3: operators})


def _code(convolution: _Convolution) -> int:
    return _DEPTHWISE_CONV_2D if convolution.depthwise else _CONV_2D


def _tables(builder: Any, items: Sequence[Any], write: Callable[[Any, Any], int]) -> int:
    """A vector of tables."""
    offsets = [write(builder, item) for item in items]
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _table(builder: Any, fields: int, offsets: dict[int, int]) -> int:
    """A table all of whose fields are others' offsets."""
    builder.StartObject(fields)
    for field, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(field, offset, 0)
    return int(builder.EndObject())


def _ints(builder: Any, values: Sequence[int]) -> int:
    return int(builder.CreateNumpyVector(np.asarray(values, np.int32)))


def _operator_code(builder: Any, code: int) -> int:
    builder.StartObject(4)
    builder.PrependInt8Slot(0, code, 0)
    builder.PrependInt32Slot(2, _OPERATOR_VERSION, 1)
    builder.PrependInt32Slot(3, code, 0)
    return int(builder.EndObject())


def _buffer(builder: Any, data: bytes) -> int:
    if not data:
        return _table(builder, 1, {})
    builder.StartVector(1, len(data), _ALIGNMENT)
    builder.head -= len(data)
    builder.Bytes[builder.head : builder.head + len(data)] = data
    return _table(builder, 1, {0: int(builder.EndVector())})


def _write_tensor(builder: Any, tensor: _Tensor) -> int:
    shape = _ints(builder, tensor.shape)
    name = builder.CreateString(tensor.name)
    scale = builder.CreateNumpyVector(tensor.scale)
    zero_point = builder.CreateNumpyVector(tensor.zero_point)
    builder.StartObject(7)
    builder.PrependUOffsetTRelativeSlot(2, scale, 0)
    builder.PrependUOffsetTRelativeSlot(3, zero_point, 0)
    builder.PrependInt32Slot(6, tensor.axis, 0)
    quantisation = builder.EndObject()
    builder.StartObject(5)
    builder.PrependUOffsetTRelativeSlot(0, shape, 0)
    builder.PrependInt8Slot(1, tensor.kind, 0)
    builder.PrependUint32Slot(2, tensor.buffer, 0)
    builder.PrependUOffsetTRelativeSlot(3, name, 0)
    builder.PrependUOffsetTRelativeSlot(4, quantisation, 0)
    return int(builder.EndObject())


def _operator(builder: Any, convolution: _Convolution, codes: Sequence[int]) -> int:
    inputs, outputs = _ints(builder, convolution.inputs), _ints(builder, (convolution.output,))
    # Padding SAME is 0 and the dilation factors are 1, which are the fields' defaults.
    builder.StartObject(7 if convolution.depthwise else 6)
    builder.PrependInt32Slot(1, convolution.stride, 0)
    builder.PrependInt32Slot(2, convolution.stride, 0)
    if convolution.depthwise:
        builder.PrependInt32Slot(3, 1, 0)  # depth multiplier
    options = builder.EndObject()
    builder.StartObject(5)
    builder.PrependUint32Slot(0, codes.index(_code(convolution)), 0)
    builder.PrependUOffsetTRelativeSlot(1, inputs, 0)
    builder.PrependUOffsetTRelativeSlot(2, outputs, 0)
    builder.PrependUint8Slot(3, _DEPTHWISE_OPTIONS if convolution.depthwise else _CONV_OPTIONS, 0)
    builder.PrependUOffsetTRelativeSlot(4, options, 0)
    return int(builder.EndObject())
