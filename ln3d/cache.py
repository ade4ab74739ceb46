"""Where fetched files lie: weights and unpacked packages, outside every workspace and shared by all of them."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder of everything that `ln3d fetch` brings: $LN3D_CACHE, by default ~/.cache/ln3d."""
    return _from_environment("LN3D_CACHE") or Path.home() / ".cache" / "ln3d"


def weights_folder() -> Path:
    """Return the folder of pretrained weights, `weights` in the cache."""
    return cache_folder() / "weights"


def packages_folder() -> Path:
    """Return the folder of unpacked packages, one folder each: $LN3D_PACKAGES, by default `packages` in the cache."""
    return _from_environment("LN3D_PACKAGES") or cache_folder() / "packages"


def _from_environment(variable: str) -> Path | None:
    text = os.environ.get(variable)
    return Path(text).expanduser().absolute() if text else None
