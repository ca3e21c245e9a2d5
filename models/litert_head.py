"""The same head as an int8 LiteRT model, for Linux boards and as the oracle of the integer arithmetic.

The flatbuffer is written directly, layer by layer, so that weights, multipliers and biases are the head
file's own. A LiteRT model gives scales as float32 and computes the multiplier from them: input and output
scales are 1 and a channel's filter scale is its multiplier, which must therefore have at most 24 significant
bits (the export sees to it). With the reference resolver LiteRT gives the same symbols as `models.head`;
XNNPACK (the default) rounds once instead of twice and may differ by one in a few values of a thousand.

Runs on ai-edge-litert, or on tflite-runtime where only that is installed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.errors import BundleError
from models.flatmodel import ModelWriter
from models.headfile import DEPTHWISE, LATENT, HeadFile

try:
    from ai_edge_litert import interpreter as litert
except ModuleNotFoundError:  # boards that have the predecessor only
    from tflite_runtime import interpreter as litert

ZERO_POINT = -128
SIGNIFICANT_BITS = 24


def build(headfile: HeadFile, width_index: int) -> bytes:
    """One width of the head as a .tflite: int8 images (N,H,W,C) in, int8 latent values (N,H',W',C') out.

    int8 is the uint8 of the head file minus 128, except the output, which is the latent value itself. Raises
    BundleError when a multiplier needs more than 24 significant bits.
    """
    writer = ModelWriter()
    width = headfile.widths[width_index]
    inputs = headfile.in_channels(width_index)
    grids = headfile.grids()
    source = current = writer.activation("image", (1, *headfile.input), ZERO_POINT)
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
    return writer.finish(source, current)


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
