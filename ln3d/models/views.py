"""Posed views of a batch of objects, as the encoders take them."""

from dataclasses import dataclass

from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from ln3d.geometry.colour import stretch_chroma
from ln3d.geometry.rays import image_rays, pluecker


@dataclass(frozen=True)
class Views:
    """V views of each of b objects, on white.

    colour is in [0, 1]; depth is along the ray in world units, 0 where nothing is hit; intrinsics are
    normalised by the image size.
    """

    colour: Float[Tensor, "b v 3 h w"]
    depth: Float[Tensor, "b v h w"]
    camera_to_world: Float[Tensor, "b v 4 4"]
    intrinsics: Float[Tensor, "b v 3 3"]

    def stretched_colour(self, gain: float) -> Float[Tensor, "b v 3 h w"]:
        """Return the colours with differences from luma multiplied by `gain`."""
        return stretch_chroma(self.colour, gain, dim=2)

    def rays(self) -> tuple[Float[Tensor, "n r 3"], Float[Tensor, "n r 3"]]:
        """Return origins and unit directions of all pixels, views folded into the batch, row by row."""
        cameras = rearrange(self.camera_to_world, "b v i j -> (b v) i j")
        intrinsics = rearrange(self.intrinsics, "b v i j -> (b v) i j")
        return image_rays(cameras, intrinsics, self.depth.shape[-1])

    def pluecker(self) -> Float[Tensor, "b v 6 h w"]:
        """Return the Pluecker coordinates (o x d, d) of every pixel's ray."""
        side, count = self.depth.shape[-1], self.depth.shape[1]
        return rearrange(pluecker(*self.rays()), "(b v) (h w) c -> b v c h w", v=count, h=side)

    def points(self) -> Float[Tensor, "b n 3"]:
        """Return the world position behind every pixel (the camera itself where depth is 0), n = v h w."""
        origins, directions = self.rays()
        depth = rearrange(self.depth, "b v h w -> (b v) (h w) 1")
        return rearrange(origins + depth * directions, "(b v) r c -> b (v r) c", v=self.depth.shape[1])
