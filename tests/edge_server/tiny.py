"""A small bundle with a real head file and a real LiteRT tail: 8 x 8 images, two widths, three classes."""

import hashlib
import json
from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from models.head import Head
from models.headfile import CONV, LATENT, POINTWISE, RELU, HeadFile, Layer, Width
from wire.rans import Tables

CLASSES = ["dark", "grey", "bright"]
SIZE = (8, 8, 1)
LEVELS = 8


def head_file(seed: int = 1) -> HeadFile:
    """A convolution with stride 2 and a pointwise latent layer; widths 0.5 and 1."""
    rng = np.random.default_rng(seed)
    layers = (Layer(CONV, 2, RELU, 1, 8, 0), Layer(POINTWISE, 1, LATENT, 8, 4, 72))
    weights = rng.integers(-40, 120, 72 + 32).astype(np.int8)
    widths = []
    for thousandths, outs in ((500, (4, 2)), (1000, (8, 4))):
        n = 4 * 4 * outs[1]
        freqs = np.full((1, LEVELS), 4096 // LEVELS, np.uint16)
        mult = tuple(np.full(c, 1 << 30, np.int64) for c in outs)
        bias = tuple(np.zeros(c, np.int64) for c in outs)
        rshift = (np.full(outs[0], 9, np.int64), np.full(outs[1], 11, np.int64))
        widths.append(Width(thousandths, outs, mult, bias, rshift, Tables(freqs, np.zeros(n, np.uint8))))
    return HeadFile(SIZE, LEVELS, LEVELS // 2, layers, weights, tuple(widths))


def tail_model(weights: np.ndarray, shape: tuple[int, int, int]) -> bytes:
    """A float .tflite of one fully connected operator: (N, H, W, C) -> (N, K)."""
    classes, inputs = weights.shape
    buffers = [schema.BufferT(), schema.BufferT()]
    buffers[0].data = None
    buffers[1].data = np.frombuffer(weights.astype("<f4").tobytes(), np.uint8)

    def tensor(name: str, dims: tuple[int, ...], buffer: int) -> schema.TensorT:
        t = schema.TensorT()
        t.name, t.shape, t.type, t.buffer = name, list(dims), schema.TensorType.FLOAT32, buffer
        t.shapeSignature = [-1, *dims[1:]] if buffer == 0 else None
        return t

    graph = schema.SubGraphT()
    graph.tensors = [
        tensor("latent", (1, *shape), 0),
        tensor("weights", (classes, inputs), 1),
        tensor("logits", (1, classes), 0),
    ]
    graph.inputs, graph.outputs = [0], [2]
    operator = schema.OperatorT()
    operator.inputs, operator.outputs, operator.opcodeIndex = [0, 1, -1], [2], 0
    operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    operator.builtinOptions = schema.FullyConnectedOptionsT()
    graph.operators = [operator]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    model = schema.ModelT()
    model.version, model.subgraphs, model.operatorCodes, model.buffers = 3, [graph], [code], buffers
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def write_bundle(directory: Path, name: str = "tiny", seed: int = 1) -> Path:
    """Write the bundle; its tail tells apart how bright images are, so that classes mean something."""
    directory.mkdir(parents=True)
    headfile = head_file(seed)
    rng = np.random.default_rng(seed)
    y = np.arange(24) % 3
    x = (y[:, None, None, None] * 80 + rng.integers(30, 60, (24, *SIZE))).astype(np.uint8)
    weights = _fit(headfile, x, y)
    parts = {"head": ("head.bin", headfile.emit()), "tail": ("tail.tflite", tail_model(weights, (4, 4, 4)))}
    np.savez(directory / "camera.npz", x=x, y=y.astype(np.uint8))
    parts["camera"] = ("camera.npz", (directory / "camera.npz").read_bytes())
    info = {
        "format": 1,
        "name": name,
        "version": "1",
        "licence": "Apache-2.0",
        "data": {"name": "made up", "licence": "none"},
        "classes": CLASSES,
        "input": {"height": 8, "width": 8, "channels": 1},
        "latent": {"height": 4, "width": 4, "levels": LEVELS, "center": LEVELS // 2},
        "widths": [
            {
                "width": 0.5,
                "macs": 900,
                "top1": 0.8,
                "bytes": {"mean": 13.0},
                "frames": {"mean": 1.0, "max": 1},
            },
            {
                "width": 1.0,
                "macs": 3000,
                "top1": 0.9,
                "bytes": {"mean": 25.0},
                "frames": {"mean": 3.0, "max": 3},
            },
        ],
        "training": {"command": "none"},
    }
    for part, (file, content) in parts.items():
        (directory / file).write_bytes(content)
        info[part] = {"file": file, "sha256": hashlib.sha256(content).hexdigest()}
    (directory / "bundle.json").write_text(json.dumps(info))
    return directory


def _fit(headfile: HeadFile, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Least squares from latents of both widths (missing channels 0) to one-hot classes: (K, H·W·C)."""
    rows, targets = [], []
    for index in range(2):
        channels = headfile.latent_shape(index)[2]
        latent = np.zeros((len(x), 4, 4, 4))
        values = Head(headfile).run(x, index).reshape(len(x), 4, 4, channels).astype(float)
        latent[..., :channels] = values - headfile.center
        rows.append(latent.reshape(len(x), -1))
        targets.append(np.eye(3)[y])
    solution, *_ = np.linalg.lstsq(np.concatenate(rows), np.concatenate(targets) * 8 - 4, rcond=1e-3)
    return solution.T.astype(np.float32)
