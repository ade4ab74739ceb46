"""Can a stranger name what was sampled, without seeing the prompt?

    python benchmarks/blind_naming.py draw --model WORKSPACE --folder DIR     # shuffled pictures and a hidden key
    python benchmarks/blind_naming.py score --folder DIR --answers answers.json

`draw` writes uncurated samples, seeds 0-7 of every prompt, as pictures whose names say nothing, and key.json,
which the judge must not open. The judge answers {"picture name": "label"} with one of LABELS each.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from ln3d.generation.model import Generator, views_around
from ln3d.runtime import tune_allocator
from ln3d.seeding import key_seed, numpy_generator

PROMPTS = {"chair": "a chair", "car": "a car", "plane": "a plane"}
LABELS = ["bed", "bicycle", "boat", "car", "chair", "lamp", "plane", "plant", "sofa", "table"]
SEEDS = range(8)
VIEWS, SIZE = 4, 96


def draw(model: Path | None, folder: Path) -> None:
    """Write the pictures in shuffled order, and the key."""
    tune_allocator()
    generator = Generator.load(model)
    asked = [(label, seed) for label in PROMPTS for seed in SEEDS]
    order = numpy_generator("blind naming").permutation(len(asked))
    folder.mkdir(parents=True, exist_ok=True)
    key = {}
    for label, seed in (asked[i] for i in order):
        latents = generator.sample([PROMPTS[label]], [seed])
        views = generator.views(latents, *views_around(VIEWS), SIZE)[0].numpy()
        name = f"{key_seed('blind', label, seed) % 10**6:06d}.png"
        Image.fromarray((np.concatenate(list(views), axis=1) * 255).round().astype(np.uint8)).save(folder / name)
        key[name] = {"label": label, "seed": seed}
    (folder / "key.json").write_text(json.dumps(key, indent=1, sort_keys=True) + "\n")


def score(folder: Path, answers: Path) -> None:
    """Print how many pictures of each prompt were named right, as a final JSON line."""
    key, given = json.loads((folder / "key.json").read_text()), json.loads(answers.read_text())
    right = {label: 0 for label in PROMPTS}
    for name, truth in sorted(key.items()):
        right[truth["label"]] += given[name] == truth["label"]
        print(f"{name}  seed {truth['seed']}  asked {truth['label']:6s} named {given[name]}")
    print(json.dumps({"named_right": right, "of": len(SEEDS), "labels": len(LABELS)}))


def main() -> None:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["draw", "score"])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--answers", type=Path)
    arguments = parser.parse_args()
    if arguments.action == "draw":
        draw(arguments.model, arguments.folder)
    else:
        score(arguments.folder, arguments.answers)


if __name__ == "__main__":
    main()
