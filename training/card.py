"""The model card of a bundle, written from its measured figures."""

from __future__ import annotations

from typing import Any

from models.datasets import SOURCES
from training.recipe import Recipe

_STAGES = {
    "teacher": "teacher, from labels",
    "staged": "matching the teacher's features at each width's price of bytes, then, from the middle on, the "
    "tail alone from labels and the teacher's answers",
    "refined": "head and tail together, from labels and the teacher's answers",
    "trimmed": "the widest width alone, to fewer bytes",
}


def model_card(info: dict[str, Any], recipe: Recipe) -> str:
    """Markdown with data, licence, figures, the commands that print them, and how the model was trained."""
    training, head = info["training"], info["head"]
    size = "×".join(str(info["input"][key]) for key in ("height", "width", "channels"))
    count = info["widths"][0]["n"]
    targets = ", ".join(f"{target.mean:g}" for target in recipe.targets)
    source = f", as {info['data']['source']}" if info["data"].get("source") not in (None, "official") else ""
    paragraphs = [
        f"# {info['name']} {info['version']}",
        f"A slimmable int8 head ({head['params']} weights, {head['flash_bytes']} bytes of flash) for {size} "
        f"inputs, an int8 tail and {len(info['widths'])} widths. Classes: {', '.join(info['classes'])}.",
        f"Licence of the model: {info['licence']}. Trained on {info['data']['name']} "
        f"({info['data']['licence']}){source}. {_camera(info)}",
        "## Figures",
        f"On the {count} images of the test split, through what ships: integer head, coded bytes, decoder, "
        f"LiteRT tail. {_again(info, recipe)}",
        "\n".join(_test_rows(info)),
        "`bytes` are the coded symbols, `frames` what the whole message takes on 802.15.4 with EUI-64 "
        f"addresses. {_memory(head)}",
        *_full(training),
        "On the images of the validation split; the last column is the tail before its quantisation.",
        "\n".join(_validation_rows(info)),
        f"![accuracy over bytes]({info['plot']})" if "plot" in info else "",
        "## Training",
        f"`{training['command']}`",
        "\n".join(_stage_rows(training["stages"], recipe)),
        info["data"].get("split", ""),
        f"Byte targets of the widths: {targets} (mean). Quantisation is in the loop throughout; narrower "
        "widths also learn from the widest. Nothing was chosen on the test split. Another processor, number "
        "of threads or time limit gives figures a little different from these for the same seed.",
        *recipe.notes,
        *(["## Limits", recipe.limits] if recipe.limits else []),
    ]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph) + "\n"


def _camera(info: dict[str, Any]) -> str:
    camera = info["camera"]
    if "data" in camera:
        return (
            f"The bundle holds no images: its camera draws {camera['n']} from the test split "
            f"(seed {camera['seed']}) where the data set is at hand."
        )
    return f"`{camera['file']}` holds test images, drawn at random."


def _again(info: dict[str, Any], recipe: Recipe) -> str:
    """The command that measures the bundle again."""
    if recipe.data in SOURCES:
        return f"`slimwire eval {info['name']} --data {recipe.data} --json` prints them."
    shown = "them" if recipe.camera_images >= info["widths"][0]["n"] else f"{recipe.camera_images} of them"
    return (
        f"`camera.npz` holds {shown}: in this directory, `slimwire eval . --data camera.npz --json` measures "
        "again."
    )


def _memory(head: dict[str, Any]) -> str:
    if head.get("ram_bytes") is None:
        return ""
    return (
        f"On MicroPython the head takes {head['ram_bytes']} bytes of heap, or {head['ram_bytes_streamed']} "
        "with its weights left in flash."
    )


def _full(training: dict[str, Any]) -> list[str]:
    full = training.get("full_model")
    if not full:
        return []
    text = (
        "The full model (this head and tail at full width, without bottleneck and quantisation, "
        f"{full['epochs']} epochs) reaches {100 * full['top1']:.2f} %"
    )
    if full.get("teacher_top1") is not None:
        text += f", the teacher {100 * full['teacher_top1']:.2f} %"
    return [text + "."]


def _stage_rows(stages: list[dict[str, Any]], recipe: Recipe) -> list[str]:
    rows = ["| stage | epochs | top-1 % on validation, widest | on |", "|---|---|---|---|"]
    for stage in stages:
        what = _STAGES.get(stage["stage"], stage["stage"])
        if stage["stage"] == "teacher" and recipe.erase:
            what += ", with random rectangles missing"
        note = f" ({stage['note']})" if "note" in stage else ""
        rows.append(
            f"| {what}{note} | {stage['epochs']} | {100 * stage['validation']:.2f} "
            f"| {stage['device']}, torch {stage['torch']} |"
        )
    return rows


def _test_rows(info: dict[str, Any]) -> list[str]:
    rows = [
        "| width | latent channels | MMAC on the device | top-1 % (95 % interval) | bytes, mean | p99 "
        "| frames, mean | max |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in info["widths"]:
        low, high = row["top1_ci95"]
        rows.append(
            f"| {row['width']:.2f} | {row['channels']} | {row['macs'] / 1e6:.3f} "
            f"| {100 * row['top1']:.2f} ({100 * low:.2f}–{100 * high:.2f}) | {row['bytes']['mean']:.1f} "
            f"| {row['bytes']['p99']:.0f} | {row['frames']['mean']:.2f} | {row['frames']['max']} |"
        )
    return rows


def _validation_rows(info: dict[str, Any]) -> list[str]:
    rows = ["| width | bytes, mean | top-1 % | float tail, top-1 % |", "|---|---|---|---|"]
    for row in info["training"]["validation"]:
        rows.append(
            f"| {row['width']:.2f} | {row['bytes']['mean']:.1f} | {100 * row['top1']:.2f} "
            f"| {100 * row['float_tail_top1']:.2f} |"
        )
    return rows
