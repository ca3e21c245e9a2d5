"""The model card of a bundle, written from its measured figures."""

from __future__ import annotations

from typing import Any

from training.recipe import Recipe


def model_card(info: dict[str, Any], recipe: Recipe) -> str:
    """Markdown with data, licence, figures, the commands that print them, and how the model was trained."""
    training, head = info["training"], info["head"]
    size = "×".join(str(info["input"][key]) for key in ("height", "width", "channels"))
    rows = [
        f"| {row['width']:.2f} | {row['channels']} | {row['macs'] / 1e6:.3f} | {100 * row['top1']:.2f} "
        f"({100 * row['top1_ci95'][0]:.2f}–{100 * row['top1_ci95'][1]:.2f}) | {row['bytes']['mean']:.1f} "
        f"| {row['bytes']['p99']:.0f} | {row['frames']['mean']:.2f} | {row['frames']['max']} "
        f"| {100 * chosen['top1']:.2f} | {100 * chosen['float_tail_top1']:.2f} |"
        for row, chosen in zip(info["widths"], training["validation"], strict=True)
    ]
    count = info["widths"][0]["n"]
    lines = [
        f"# {info['name']} {info['version']}",
        "",
        f"A slimmable int8 head ({head['params']} weights, {head['flash_bytes']} bytes of flash) for {size} images, "
        f"an int8 tail and {len(info['widths'])} widths. Classes: {', '.join(info['classes'])}.",
        "",
        f"Licence of the model: {info['licence']}. Trained on {info['data']['name']} ({info['data']['licence']}); "
        f"`camera.npz` holds {recipe.camera_images} of its test images, drawn at random with seed "
        f"{recipe.camera_seed}.",
        "",
        "## Figures",
        "",
        f"On the {count} images of the test split, through what ships: integer head, coded bytes, decoder, LiteRT",
        "tail. The last two columns are the validation split, with this tail and with the tail before quantisation.",
        f"`slimwire eval {info['name']} --data {recipe.data} --json` prints the others.",
        "",
        "| width | latent channels | MMAC on the device | top-1 % (95 %) | bytes, mean | p99 | frames, mean | max "
        "| validation % | float tail % |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *rows,
        "",
        "`bytes` are the coded symbols, `frames` what the whole message takes on 802.15.4 with EUI-64 addresses. A",
        f"device needs about {head['ram_bytes']} bytes for weights, tables and activations of the full width.",
        "",
        *recipe.notes,
        "",
        "## Training",
        "",
        f"`{training['command']}`",
        "",
        f"A teacher of {recipe.teacher_epochs} epochs (validation top-1 "
        f"{100 * training['teacher_validation_top1']:.2f} %), then {training['epochs']} epochs of the slimmable model: "
        "widest, narrowest and one width between in every step, distillation from the teacher and from the widest, "
        "quantisation in the loop, and a byte target for each width "
        f"({', '.join(f'{target.mean:g}' for target in recipe.targets)} bytes, mean). The last "
        f"{recipe.validation} training images are the validation split; the test split was used once, for the table "
        "above. Another number of threads, or a processor without bfloat16, gives figures a little different from "
        "these for the same seed.",
        "",
        "## Limits",
        "",
        "Small grey pictures of single garments, centred on black: nothing here says how it does on photographs. The "
        "answers' confidence is not calibrated.",
        "",
    ]
    return "\n".join(lines)
