"""The model card of a bundle, written from its measured figures."""

from __future__ import annotations

from typing import Any

from training.recipe import Recipe


def model_card(info: dict[str, Any], recipe: Recipe) -> str:
    """Markdown with data, licence, figures, the commands that print them, and how the model was trained."""
    training, head = info["training"], info["head"]
    size = "×".join(str(info["input"][key]) for key in ("height", "width", "channels"))
    count = info["widths"][0]["n"]
    targets = ", ".join(f"{target.mean:g}" for target in recipe.targets)
    teacher = f"{100 * training['teacher_validation_top1']:.2f} %"
    paragraphs = [
        f"# {info['name']} {info['version']}",
        f"A slimmable int8 head ({head['params']} weights, {head['flash_bytes']} bytes of flash) for "
        f"{size} images, an "
        f"int8 tail and {len(info['widths'])} widths. Classes: {', '.join(info['classes'])}.",
        f"Licence of the model: {info['licence']}. Trained on {info['data']['name']} "
        f"({info['data']['licence']}); `camera.npz` holds {recipe.camera_images} of its test images, "
        "drawn at "
        f"random with seed {recipe.camera_seed}.",
        "## Figures",
        f"On the {count} images of the test split, through what ships: integer head, coded bytes, "
        "decoder, LiteRT "
        f"tail. `slimwire eval {info['name']} --data {recipe.data} --json` prints them.",
        "\n".join(_test_rows(info)),
        "`bytes` are the coded symbols, `frames` what the whole message takes on 802.15.4 with "
        "EUI-64 addresses. A "
        f"device needs {head['ram_bytes']} bytes for weights, tables and activations of the full width.",
        f"On the {recipe.validation} images of the validation split; the last column is the tail before its "
        "quantisation.",
        "\n".join(_validation_rows(info)),
        "## Training",
        f"`{training['command']}`",
        f"A teacher of {recipe.teacher_epochs} epochs (validation top-1 {teacher}), then "
        f"{training['epochs']} "
        "epochs of the slimmable model: widest, narrowest and one width between in every step, "
        "distillation from "
        "the teacher and from the widest, quantisation in the loop, and a byte target for each width "
        f"({targets} bytes, mean). The last {recipe.validation} training images are the validation "
        "split; the test "
        "split was used for the figures alone. Another number of threads, or a processor without "
        "bfloat16, gives "
        "figures a little different from these for the same seed.",
        *recipe.notes,
        "## Limits",
        "Small grey pictures of single garments, centred on black: nothing here says how it does on "
        "photographs. "
        "The answers' confidence is not calibrated.",
    ]
    return "\n\n".join(paragraphs) + "\n"


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
