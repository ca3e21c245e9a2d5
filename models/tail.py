"""The server's part of a bundle: latents of any widths in one batch → logits, on LiteRT.

Runs on ai-edge-litert, or on tflite-runtime where only that is installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from models.errors import BundleError

if TYPE_CHECKING:
    from models.headfile import HeadFile

try:
    from ai_edge_litert.interpreter import Interpreter
except ModuleNotFoundError:  # boards and servers that have the predecessor only
    from tflite_runtime.interpreter import Interpreter

LARGEST_BATCH = 64


class Tail:
    """The tail of one bundle. Not for use by two threads at once: give each its own.

    A batch is padded to the next power of two (at most 64), each of which keeps an interpreter ready:
    resizing one costs more than running it.
    """

    def __init__(self, model: bytes, headfile: HeadFile, classes: int, num_threads: int = 1) -> None:
        """Raises BundleError when the model does not load, or fits neither the latent nor the classes."""
        self._model = model
        self._headfile = headfile
        self._threads = num_threads
        height, width, _ = headfile.latent_shape(0)
        self._shape = (height, width, headfile.layers[-1].out_channels)
        self._classes = classes
        self._ready: dict[int, _Sized] = {}
        self._sized(1)

    def run(self, symbols: Sequence[tuple[int, npt.NDArray[np.uint8]]]) -> npt.NDArray[np.float32]:
        """Logits float32 (N,K) of latents ``(width index, symbols uint8 (n,))``, widths mixed at will.

        Raises BundleError when a width does not exist or a latent does not have its width's number of
        symbols.
        """
        latents = np.zeros((len(symbols), *self._shape), np.float32)
        for row, (width_index, values) in enumerate(symbols):
            if not 0 <= width_index < len(self._headfile.widths):
                raise BundleError(f"no width {width_index}; expected 0 to {len(self._headfile.widths) - 1}")
            shape = self._headfile.latent_shape(width_index)
            if values.shape != (shape[0] * shape[1] * shape[2],):
                raise BundleError(
                    f"a latent of width {width_index} has shape {values.shape}; "
                    f"expected ({shape[0] * shape[1] * shape[2]},)"
                )
            latents[row, :, :, : shape[2]] = values.reshape(shape)
            latents[row, :, :, : shape[2]] -= self._headfile.center
        logits = np.empty((len(symbols), self._classes), np.float32)
        for start in range(0, len(symbols), LARGEST_BATCH):
            part = latents[start : start + LARGEST_BATCH]
            size = 1 << (len(part) - 1).bit_length()
            logits[start : start + len(part)] = self._sized(size).run(part)
        return logits

    def _sized(self, batch: int) -> _Sized:
        if batch not in self._ready:
            self._ready[batch] = _Sized(self._model, batch, self._threads, self._shape, self._classes)
        return self._ready[batch]


class _Sized:
    """An interpreter allocated for one batch size."""

    def __init__(
        self, model: bytes, batch: int, threads: int, shape: tuple[int, int, int], classes: int
    ) -> None:
        try:
            interpreter = Interpreter(model_content=model, num_threads=threads)
        except (ValueError, RuntimeError) as error:
            raise BundleError(f"the tail is no LiteRT model that runs here ({error})") from error
        (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
        found = tuple(int(size) for size in source["shape"][1:])
        if found != shape:
            raise BundleError(f"the tail takes latents of {found}; expected {shape}, what the head gives")
        if tuple(result["shape"][1:]) != (classes,):
            raise BundleError(
                f"the tail answers with shape {tuple(result['shape'])}; expected (N, {classes})"
            )
        interpreter.resize_tensor_input(source["index"], (batch, *shape))
        interpreter.allocate_tensors()
        self._interpreter = interpreter
        self._input, self._output = source["index"], result["index"]
        self._in = _Scale(source)
        self._out = _Scale(result)
        self._values = np.zeros((batch, *shape), source["dtype"])

    def run(self, latents: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(n,H,W,C) float32 with n up to the batch size → (n,K) float32."""
        self._values[: len(latents)] = self._in.quantise(latents)
        self._interpreter.set_tensor(self._input, self._values)
        self._interpreter.invoke()
        return self._out.dequantise(self._interpreter.get_tensor(self._output)[: len(latents)])


class _Scale:
    """How a tensor's numbers stand for real values; scale 0 means the tensor is float already."""

    def __init__(self, details: dict[str, Any]) -> None:
        self.scale, self.zero_point = details["quantization"]

    def quantise(self, values: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        if not self.scale:
            return values
        numbers: npt.NDArray[np.int8] = np.clip(
            np.rint(values / self.scale) + self.zero_point, -128, 127
        ).astype(np.int8)
        return numbers

    def dequantise(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        if not self.scale:
            return values.astype(np.float32)
        real: npt.NDArray[np.float32] = (values.astype(np.float32) - self.zero_point) * np.float32(self.scale)
        return real
