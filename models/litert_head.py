"""The same head as an int8 LiteRT model, for Linux boards and as the oracle of the integer arithmetic.

The flatbuffer is written directly, layer by layer, so that weights, multipliers and biases are the head
file's own. A LiteRT model gives scales as float32 and computes the multiplier from them: input and output
scales are 1 and a channel's filter scale is its multiplier, which must therefore have at most 24 significant
bits (the export sees to it). With the reference resolver LiteRT gives the same symbols as `models.head`;
XNNPACK (the default) rounds once instead of twice and may differ by one in a few values of a thousand.
"""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import interpreter as litert
from ai_edge_litert import schema_py_generated as schema

from models.errors import BundleError
from models.headfile import DEPTHWISE, LATENT, HeadFile

ZERO_POINT = -128
SIGNIFICANT_BITS = 24


def build(headfile: HeadFile, width_index: int) -> bytes:
    """One width of the head as a .tflite: int8 images (N,H,W,C) in, int8 latent values (N,H',W',C') out.

    int8 is the uint8 of the head file minus 128, except the output, which is the latent value itself. Raises
    BundleError when a multiplier needs more than 24 significant bits.
    """
    writer = _ModelWriter()
    width = headfile.widths[width_index]
    inputs = headfile.in_channels(width_index)
    grids = headfile.grids()
    current = writer.activation("image", (1, *headfile.input), ZERO_POINT)
    writer.graph.inputs = [current]
    for i, layer in enumerate(headfile.layers):
        outputs = width.out_channels[i]
        weights = headfile.layer_weights(i)
        if layer.op == DEPTHWISE:
            weights = weights[None, :, :, :outputs]
        elif weights.ndim == 2:
            weights = weights[:outputs, None, None, : inputs[i]]
        else:
            weights = weights[:outputs, :, :, : inputs[i]]
        if (width.mult[i] & ((1 << (31 - SIGNIFICANT_BITS)) - 1)).any():
            raise BundleError(f"layer {i} has a multiplier of more than {SIGNIFICANT_BITS} significant bits")
        scale = width.mult[i] * 2.0 ** -(31.0 + width.rshift[i])
        last = layer.act == LATENT
        result = writer.activation(
            "latent" if last else f"layer{i}", (1, *grids[i + 1], outputs), 0 if last else ZERO_POINT
        )
        writer.convolution(
            depthwise=layer.op == DEPTHWISE,
            stride=layer.stride,
            operands=(
                current,
                writer.constant(f"weights{i}", weights, scale, axis=3 if layer.op == DEPTHWISE else 0),
                writer.constant(f"bias{i}", width.bias[i].astype(np.int32), scale, axis=0),
            ),
            result=result,
        )
        current = result
    writer.graph.outputs = [current]
    return writer.finish()


class _ModelWriter:
    """Collects tensors and convolutions of a one-subgraph model and packs them."""

    def __init__(self) -> None:
        self.graph: Any = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.buffers: list[Any] = [schema.BufferT()]
        self.codes: list[int] = []

    def activation(self, name: str, shape: tuple[int, ...], zero_point: int) -> int:
        """An int8 tensor of scale 1 whose first dimension may be resized."""
        return self._tensor(name, shape, schema.TensorType.INT8, np.ones(1), np.array([zero_point]), 0, 0)

    def constant(self, name: str, values: npt.NDArray[Any], scale: npt.NDArray[np.float64], axis: int) -> int:
        """An int8 or int32 tensor with a scale for each channel of ``axis``."""
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self.buffers.append(buffer)
        kind = schema.TensorType.INT8 if values.dtype == np.int8 else schema.TensorType.INT32
        zeros = np.zeros(len(scale), np.int64)
        return self._tensor(name, values.shape, kind, scale, zeros, axis, len(self.buffers) - 1)

    def convolution(self, depthwise: bool, stride: int, operands: tuple[int, int, int], result: int) -> None:
        """A CONV_2D or DEPTHWISE_CONV_2D with SAME padding."""
        operator = schema.OperatorT()
        if depthwise:
            options = schema.DepthwiseConv2DOptionsT()
            options.depthMultiplier = 1
            operator.builtinOptionsType = schema.BuiltinOptions.DepthwiseConv2DOptions
            code = schema.BuiltinOperator.DEPTHWISE_CONV_2D
        else:
            options = schema.Conv2DOptionsT()
            operator.builtinOptionsType = schema.BuiltinOptions.Conv2DOptions
            code = schema.BuiltinOperator.CONV_2D
        options.padding = schema.Padding.SAME
        options.strideH = options.strideW = stride
        options.dilationHFactor = options.dilationWFactor = 1
        operator.builtinOptions = options
        if code not in self.codes:
            self.codes.append(code)
        operator.opcodeIndex = self.codes.index(code)
        operator.inputs, operator.outputs = list(operands), [result]
        self.graph.operators.append(operator)

    def finish(self) -> bytes:
        """The model's flatbuffer."""
        model = schema.ModelT()
        model.version = 3
        model.description = "Slimwire head"
        model.subgraphs, model.buffers = [self.graph], self.buffers
        model.operatorCodes = []
        for code in self.codes:
            entry = schema.OperatorCodeT()
            entry.builtinCode = entry.deprecatedBuiltinCode = code
            entry.version = 3  # int8 with per-channel scales
            model.operatorCodes.append(entry)
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(model.Pack(builder), b"TFL3")
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
        quantisation = schema.QuantizationParametersT()
        quantisation.scale = scale.astype(np.float32)
        quantisation.zeroPoint = zero_point.astype(np.int64)
        quantisation.quantizedDimension = axis
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, list(shape), kind, buffer
        tensor.quantization = quantisation
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1


class LiteRtHead:
    """Runs a model made by `build`; ``reference`` chooses the reference kernels, exact to the byte."""

    def __init__(self, model: bytes, levels: int, center: int, reference: bool) -> None:
        kind = litert.OpResolverType.BUILTIN_REF if reference else litert.OpResolverType.AUTO
        self._interpreter = litert.Interpreter(
            model_content=model, experimental_op_resolver_type=kind, num_threads=1
        )
        self._input = self._interpreter.get_input_details()[0]
        self._output = self._interpreter.get_output_details()[0]["index"]
        self._levels, self._center = levels, center
        self._batch = 0

    def run(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """(N,H,W,C) uint8 images → (N,n) uint8 symbols, as `models.head.Head.run`."""
        shape = tuple(int(size) for size in self._input["shape"][1:])
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != shape:
            raise BundleError(f"the images are {images.dtype} {images.shape}; expected uint8 (N, *{shape})")
        if len(images) != self._batch:
            self._interpreter.resize_tensor_input(self._input["index"], (len(images), *shape))
            self._interpreter.allocate_tensors()
            self._batch = len(images)
        self._interpreter.set_tensor(self._input["index"], (images.astype(np.int16) - 128).astype(np.int8))
        self._interpreter.invoke()
        latent: npt.NDArray[np.int16] = self._interpreter.get_tensor(self._output).astype(np.int16)
        return np.clip(latent + self._center, 0, self._levels - 1).astype(np.uint8).reshape(len(images), -1)
