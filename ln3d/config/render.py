"""Recipe sections of `render-dataset`: which meshes, which cameras, how drawn."""

from typing import Literal, Self

from pydantic import Field, model_validator

from ln3d.config.section import Section

CollectionKind = Literal[
    "parametric", "folder", "sweethome3d", "torcs", "flightgear", "0ad", "trigger-rally", "kicad", "shapenet",
    "objaverse", "nerf", "srn", "eg3d", "gobjaverse",
]  # fmt: skip

RINGS_VIEWS = 38
"""24 around, one above, one below, 12 around a little lower."""
Renderer = Literal["embree", "gl", "blender"]


class CollectionConfig(Section):
    """One source of meshes, or of pictures that were rendered elsewhere (`nerf`, `srn`, `eg3d`, `gobjaverse`)."""

    kind: CollectionKind
    """Which reader of `ln3d.data.collections`, or for pictures of `ln3d.data.renders`, lists the objects."""
    path: str | None = None
    """Folder of the meshes or of the unpacked package; `~` and environment variables are expanded."""
    categories: tuple[str, ...] = ()
    """Keep only these categories; empty keeps all."""
    limit: int | None = Field(None, ge=1)
    """Keep at most this many objects (the first in catalogue order)."""
    per_shape: int | None = Field(None, ge=1)
    """Keep at most this many liveries of one shape."""
    captions: str | None = None
    """`objaverse`, `gobjaverse`: a CSV file of uid and caption, or a JSON file {uid: caption}."""
    annotations: str | None = None
    """`objaverse`, `gobjaverse`: a JSON file {category: [uid, ...]}, plain or gzip."""
    category: str | None = None
    """Pictures: the category of objects whose layout does not tell it."""
    scale: float | None = Field(None, gt=0)
    """Pictures: factor from their world's units to those of the scene box; null takes the layout's own."""
    up: Literal["y", "z"] | None = None
    """Pictures: which axis of their world points up (z: Blender's, with the front at -y); null is the layout's own."""
    turn: float | None = None
    """Pictures: degrees about +y (from +z to +x) that bring the front to +z; null is the layout's own."""


class CameraConfig(Section):
    """The cameras around every object: a perspective camera that looks at the origin."""

    layout: Literal["sphere", "upper", "orbit", "rings", "listed"] = "sphere"
    """`sphere`: near-uniform over the sphere; `upper`: over the upper hemisphere; `orbit`: one closed ring, a
    turntable; `rings`: G-Objaverse's two rings, top and bottom (38 views); `listed`: those of `directions`."""
    views: int = Field(24, ge=1)
    """Views per object."""
    directions: tuple[tuple[float, float], ...] = ()
    """Azimuth (0 is the front, 90 is +x) and elevation in degrees of every camera of the `listed` layout."""
    radius: float = Field(3.2, gt=1.0)
    """Distance of the camera from the origin, in world units (the scene box is [-1, 1]^3)."""
    field_of_view: float = Field(36.0, gt=0, lt=120)
    """Full angle of view in degrees, the same across and up."""
    elevation: float = 20.0
    """Elevation of the `orbit` layout in degrees."""

    @model_validator(mode="after")
    def _every_view_has_its_place(self) -> Self:
        if self.layout == "listed" and not self.directions:
            raise ValueError("the layout listed needs directions: a list of [azimuth, elevation]")
        wanted = {"rings": RINGS_VIEWS, "listed": len(self.directions)}.get(self.layout, self.views)
        if wanted != self.views:
            raise ValueError(f"the layout {self.layout} has {wanted} cameras: set views to {wanted}")
        if self.directions and self.layout != "listed":
            raise ValueError("directions are those of another layout: set layout to listed, or leave them out")
        return self


class LimitsConfig(Section):
    """Caps that turn an absurd mesh into a named rejection."""

    seconds: float = Field(60.0, gt=0)
    """Time an object may take, reading and drawing together, of the clock and of the processor alike; not counted
    while its worker waits for a free core."""
    vertices: int = Field(5_000_000, ge=1)
    """Vertices an object may have; a file that claims more is not parsed."""
    faces: int = Field(1_000_000, ge=1)
    """Triangles an object may have; a file that claims more is not parsed."""
    texture_pixels: int = Field(64_000_000, ge=1)
    """Pixels of one texture; an image that claims more is not decoded."""
    file_bytes: int = Field(512_000_000, ge=1)
    """Bytes of one file: mesh, buffer, material or texture, unpacked where it lies in an archive."""
    archive_bytes: int = Field(2_000_000_000, ge=1)
    """Bytes that may be unpacked from an archive for one object, all its files together."""
    memory_bytes: int = Field(8_000_000_000, ge=1)
    """Address space that one worker may grow by while it handles an object."""


class SplitConfig(Section):
    """How shapes (never liveries of a shape) are divided."""

    validation: float = Field(0.03, ge=0, lt=1)
    """Share of the shapes used for validation."""
    test: float = Field(0.07, ge=0, lt=1)
    """Share of the shapes held out for evaluation."""
    held_out: tuple[str, ...] = ()
    """Source ids of objects whose shapes, in all their liveries, are held out for evaluation besides."""


class DatasetConfig(Section):
    """Meshes in, shards out."""

    collections: tuple[CollectionConfig, ...] = (CollectionConfig(kind="parametric"),)
    """The sources, in catalogue order."""
    cameras: CameraConfig = CameraConfig()
    resolution: int = Field(64, ge=8, le=2048)
    """Width and height of a view in pixels."""
    supersampling: int = Field(2, ge=1, le=8)
    """Rays per pixel and axis for colour and coverage."""
    renderer: Renderer = "embree"
    """`embree`: casts rays on the processor; `gl`: OpenGL, the same pictures faster where there is a GPU (the extra
    `gl`); `blender`: Blender's Cycles, with shadows (the extra `blender`)."""
    ids: bool = False
    """Whether shards also tell which part (material) and which triangle every pixel shows."""
    lighting: Literal["rig", "albedo"] = "rig"
    """`rig`: lights fixed in the world; `albedo`: plain surface colour."""
    captions: Literal["coloured", "described"] = "coloured"
    """`coloured`: every phrasing also with the measured colours; `described`: also with tone, finish and wood, and
    captions of one's own as they are."""
    objects_per_shard: int = Field(64, ge=1)
    """How many catalogue entries a shard covers, rejected ones included."""
    limits: LimitsConfig = LimitsConfig()
    split: SplitConfig = SplitConfig()
