"""Recipe sections of `render-dataset`: which meshes, which cameras, how drawn."""

from typing import Literal

from pydantic import Field

from ln3d.config.section import Section

CollectionKind = Literal["parametric", "folder", "sweethome3d", "torcs", "flightgear", "0ad"]


class CollectionConfig(Section):
    """One source of meshes."""

    kind: CollectionKind
    """Which reader of `ln3d.data.collections` lists the objects."""
    path: str | None = None
    """Folder of the meshes or of the unpacked package; `~` and environment variables are expanded."""
    categories: tuple[str, ...] = ()
    """Keep only these categories; empty keeps all."""
    limit: int | None = Field(None, ge=1)
    """Keep at most this many objects (the first in catalogue order)."""
    per_shape: int | None = Field(None, ge=1)
    """Keep at most this many liveries of one shape."""


class CameraConfig(Section):
    """The cameras around every object: a perspective camera that looks at the origin."""

    layout: Literal["sphere", "upper", "orbit"] = "sphere"
    """`sphere`: near-uniform over the sphere; `upper`: over the upper hemisphere; `orbit`: one closed ring."""
    views: int = Field(24, ge=1)
    """Views per object."""
    radius: float = Field(3.2, gt=1.0)
    """Distance of the camera from the origin, in world units (the scene box is [-1, 1]^3)."""
    field_of_view: float = Field(36.0, gt=0, lt=120)
    """Full angle of view in degrees, the same across and up."""
    elevation: float = 20.0
    """Elevation of the `orbit` layout in degrees."""


class LimitsConfig(Section):
    """Caps that turn an absurd mesh into a named rejection."""

    seconds: float = Field(60.0, gt=0)
    """Time an object may take, reading and drawing together; not counted while its worker waits for a free core."""
    faces: int = Field(1_000_000, ge=1)
    """Triangles an object may have."""
    texture_pixels: int = Field(64_000_000, ge=1)
    """Pixels of one texture."""
    file_bytes: int = Field(512_000_000, ge=1)
    """Bytes of the mesh file."""
    memory_bytes: int = Field(8_000_000_000, ge=1)
    """Address space that one worker may grow by while it handles an object."""


class SplitConfig(Section):
    """How shapes (never liveries of a shape) are divided."""

    validation: float = Field(0.03, ge=0, lt=1)
    """Share of the shapes used for validation."""
    test: float = Field(0.07, ge=0, lt=1)
    """Share of the shapes held out for evaluation."""


class DatasetConfig(Section):
    """Meshes in, shards out."""

    collections: tuple[CollectionConfig, ...] = (CollectionConfig(kind="parametric"),)
    """The sources, in catalogue order."""
    cameras: CameraConfig = CameraConfig()
    resolution: int = Field(64, ge=8, le=2048)
    """Width and height of a view in pixels."""
    supersampling: int = Field(2, ge=1, le=8)
    """Rays per pixel and axis for colour and coverage."""
    lighting: Literal["rig", "albedo"] = "rig"
    """`rig`: lights fixed in the world; `albedo`: plain surface colour."""
    objects_per_shard: int = Field(64, ge=1)
    """How many catalogue entries a shard covers, rejected ones included."""
    limits: LimitsConfig = LimitsConfig()
    split: SplitConfig = SplitConfig()
