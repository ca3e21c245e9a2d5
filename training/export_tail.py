"""A trained tail as int8 LiteRT: converted by litert-torch, quantised by ai-edge-quantizer."""

from __future__ import annotations

import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any

import litert_torch
import numpy as np
import numpy.typing as npt
import torch
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import quantizer, recipe

from slimwire.errors import SlimwireError
from training.nets import Tail

CHECKED = 32
TOLERANCE = 1e-3


def export_tail(tail: Tail, latents: npt.NDArray[np.float32]) -> bytes:
    """The tail as a .tflite, int8 in and out: latents (N,H,W,C_full) → logits (N,K).

    ``latents`` are calibration inputs, as the decoder gives them (symbol − center, absent channels 0), of all
    widths.
    """
    # A copy with contiguous weights: the converter mixes up channels-last constants, though not every time.
    plain = deepcopy(tail).to(memory_format=torch.contiguous_format).eval()
    channel_last = litert_torch.to_channel_last_io(plain, args=[0]).eval()
    model = litert_torch.convert(channel_last, (torch.from_numpy(latents[:1].copy()),))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tail.tflite"
        model.export(str(path))
        _check_conversion(str(path), plain, latents[:CHECKED])
        signature, parts = next(iter(Interpreter(str(path)).get_signature_list().items()))
        job = quantizer.Quantizer(str(path))
        job.load_quantization_recipe(recipe.static_wi8_ai8())
        ranges: dict[str, Any] = {}
        for i in range(len(latents)):
            sample = {parts["inputs"][0]: latents[i : i + 1]}
            _widen(ranges, job.calibrate({signature: [sample]}, num_threads=1))
        result = job.quantize(ranges)
        return bytes(result.quantized_model)


@torch.no_grad()
def _check_conversion(path: str, tail: Tail, latents: npt.NDArray[np.float32]) -> None:
    """The converted float model answers as torch does; raises SlimwireError if not."""
    interpreter = Interpreter(path, num_threads=1)
    interpreter.allocate_tensors()
    source, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    expected = tail(torch.from_numpy(latents).permute(0, 3, 1, 2)).numpy()
    for row, answer in zip(latents, expected, strict=True):
        interpreter.set_tensor(source, row[None])
        interpreter.invoke()
        error = float(np.abs(interpreter.get_tensor(result)[0] - answer).max())
        if error > TOLERANCE:
            raise SlimwireError(
                f"the converted tail's logits differ from the trained one's by {error:.3g}",
                expected=f"at most {TOLERANCE}",
                remedy="export again, with the versions of litert-torch and torch that the train extra names",
            )


def _widen(ranges: dict[str, Any], seen: dict[str, Any]) -> None:
    """Takes one sample's (min, max) of each tensor into ``ranges``.

    Over several samples the calibrator keeps a moving average of the extremes, which would clip rare values.
    """
    for name, found in seen.items():
        before = ranges.get(name)
        if before and found:
            found["min"] = np.minimum(found["min"], before["min"])
            found["max"] = np.maximum(found["max"], before["max"])
        ranges[name] = found
