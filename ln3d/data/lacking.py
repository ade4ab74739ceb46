"""What a recipe needs of the views, against what imported pictures do not hold."""

from collections.abc import Collection

from ln3d.config.vae import VaeConfig
from ln3d.errors import RecipeError


def encodes_depth(config: VaeConfig) -> bool:
    """Return whether the encoder sees the depth of its views."""
    return config.encoder.kind == "aligned" or config.encoder.depth


def check_lacks(config: VaeConfig, lacks: Collection[str]) -> None:
    """Raise RecipeError, with all that has to change, where a recipe trains on what the views lack.

    `lacks` is of `depth`, `normal` and `mask` (see `ShardSet.lacks`); normals are used by no loss.
    """
    changes = []
    if "depth" in lacks:
        changes += ["vae.encoder.kind=image vae.encoder.depth=false"] if encodes_depth(config) else []
        changes += ["vae.losses.depth=0"] if config.losses.depth > 0 else []
        changes += ["vae.losses.surface=0"] if config.losses.surface > 0 else []
        changes += ["vae.renderer.guided_fine=0"] if config.renderer.guided_fine > 0 else []
    if "mask" in lacks and config.losses.alpha > 0:
        changes.append("vae.losses.alpha=0")
    if changes:
        raise RecipeError(
            f"the shards hold pictures without {' and '.join(sorted(set(lacks) & {'depth', 'mask'}))}, "
            "which this recipe trains on",
            f"set {' '.join(changes)}",
        )
