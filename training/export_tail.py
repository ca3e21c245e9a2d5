"""A trained tail as int8 LiteRT: converted by litert-torch, quantised by ai-edge-quantizer."""

from __future__ import annotations

import tempfile
from pathlib import Path

import litert_torch
import numpy as np
import numpy.typing as npt
import torch
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import quantizer, recipe

from training.slimmable import Tail


def export_tail(tail: Tail, latents: npt.NDArray[np.float32]) -> bytes:
    """The tail as a .tflite, int8 in and out: latents (N,H,W,C_full) → logits (N,K).

    ``latents`` are calibration inputs, as the decoder gives them (symbol − center, absent channels 0), of all
    widths.
    """
    channel_last = litert_torch.to_channel_last_io(tail.eval(), args=[0])
    model = litert_torch.convert(channel_last, (torch.from_numpy(latents[:1].copy()),))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tail.tflite"
        model.export(str(path))
        signature, parts = next(iter(Interpreter(str(path)).get_signature_list().items()))
        samples = [{parts["inputs"][0]: latents[i : i + 1]} for i in range(len(latents))]
        job = quantizer.Quantizer(str(path))
        job.load_quantization_recipe(recipe.static_wi8_ai8())
        result = job.quantize(job.calibrate({signature: samples}, num_threads=1))
        return bytes(result.quantized_model)
