"""Models packed with a reference set, by a network that needs no weights."""

from pathlib import Path
from typing import Any

from stand_in_networks import Corners

from ln3d.stages import pack
from ln3d.stages.reference_share import Share
from ln3d.talk import Talk

SMALL = ("evaluation.views=3", "evaluation.image_resolution=16", "evaluation.samples=3", "evaluation.points=256")
WHOLE, PART = Share(("car",), pictures=99, shapes=9), Share(("car",), pictures=4, shapes=2)
QUIET = Talk(0)


def packed(root: Path, folder: Path, share: Share, overrides: Any = SMALL) -> Path:
    def load(name: str, device: str) -> Corners:
        return Corners(name)

    given = {"categories": share.categories, "pictures": share.pictures, "shapes": share.shapes}
    pack.run(root, QUIET, output=folder, reference=True, overrides=overrides, load=load, **given)
    return folder
