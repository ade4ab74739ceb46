"""Recipe sections of `extract-mesh` and `eval`."""

from typing import Literal

from pydantic import Field

from ln3d.config.section import Section


class MeshConfig(Section):
    """From a field to a triangle mesh."""

    resolution: int = Field(128, ge=16, le=1024)
    """Cells per axis of the marching-cubes grid."""
    iso: float | None = Field(None, gt=0)
    """Density of the surface; null takes the level stored with the VAE (chosen by agreement with rendered depth)."""
    smallest_component: float = Field(0.02, ge=0, le=1)
    """Connected components with fewer than this share of the faces are dropped as floaters."""
    format: Literal["glb", "obj", "ply"] = "glb"
    """File format where the output is a folder."""


class EvaluationConfig(Section):
    """How results are measured."""

    objects: int = Field(24, ge=1)
    """Objects per split for reconstruction metrics."""
    samples: int = Field(64, ge=1)
    """Generated shapes for set metrics."""
    points: int = Field(4096, ge=16)
    """Surface points per shape."""
    views: int = Field(20, ge=1)
    """Views of the evaluation orbit, a closed ring above the equator."""
    elevation: float = Field(30.0, gt=0, lt=90)
    """Elevation of the evaluation orbit in degrees; its radius and field of view are those of the data set."""
    image_resolution: int = Field(128, ge=8)
    """Side in pixels of the pictures that fid, kid, clip-i and clip-t compare."""
    resolution: int = Field(64, ge=8)
    """Side in pixels at which psnr, ssim and lpips compare reconstructions."""
    backbone: str = "inception"
    """Network of the features for fid and kid; with another one the metric carries its name."""
    clip: str = "clip:ViT-B-32"
    """Network of the features for clip-i and clip-t."""
    lpips: Literal["alex", "vgg"] = "alex"
    """Network of lpips."""
