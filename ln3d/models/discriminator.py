"""Vision-aided discriminators (Kumari et al. 2022): small trained heads on a frozen network, for each kind of view."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ln3d.backbones.frozen_maps import FrozenMaps
from ln3d.nn.convolution import group_norm

_SLOPE = 0.2


class MapHead(nn.Module):
    """One logit per picture from a feature map: a mixed and halved map, each place judged, the mean taken."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.entry = nn.Conv2d(channels, hidden, 1)
        self.norm = group_norm(hidden)
        self.mix = nn.Conv2d(hidden, hidden, 3, stride=2, padding=1)
        self.exit = nn.Conv2d(hidden, 1, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b"]:
        """Return the logits."""
        x = self.norm(F.leaky_relu(self.entry(x), _SLOPE))
        return self.exit(F.leaky_relu(self.mix(x), _SLOPE)).mean(dim=(1, 2, 3))


class Discriminator(nn.Module):
    """A trained head on every level of a frozen network's maps, and one on its summary.

    `maps` is used and not owned: its weights are neither trained nor saved with the heads.
    """

    def __init__(self, maps: FrozenMaps, hidden: int) -> None:
        super().__init__()
        self._maps = (maps,)  # in a tuple, which hides it from the module's own state
        self.levels = nn.ModuleList(MapHead(width, hidden) for width in maps.widths)
        self.summary = nn.Sequential(
            nn.Linear(maps.summary_width, hidden), nn.LeakyReLU(_SLOPE), nn.Linear(hidden, 1), nn.Flatten(0)
        )

    def forward(self, pictures: Float[Tensor, "b 3 h w"], *, twice: bool = False) -> Float[Tensor, "b heads"]:
        """Return one logit per head, high for what is taken for real, of sRGB pictures in [0, 1].

        With `twice` they can be differentiated twice, as the R1 penalty needs.
        """
        seen = self._maps[0](pictures, twice=twice)
        logits = [head(level) for head, level in zip(self.levels, seen.levels, strict=True)]
        return torch.stack([*logits, self.summary(seen.summary)], dim=1)


class Pair(NamedTuple):
    """What a discriminator learns from, both without a way back to the generator."""

    real: Float[Tensor, "b 3 h w"]
    fake: Float[Tensor, "c 3 h w"]


class ViewDiscriminators(nn.Module):
    """Two discriminators on one frozen network: of input-view and of novel-view renders (LN3Diff, section 3.2).

    To the novel views' one the *renders* of input views are the real pictures: with true pictures it could tell
    the views apart by their sharpness alone, and the latent collapses.
    """

    def __init__(self, maps: FrozenMaps, hidden: int) -> None:
        super().__init__()
        self.input_view, self.novel_view = Discriminator(maps, hidden), Discriminator(maps, hidden)

    def lessons(
        self,
        pictures: Float[Tensor, "b 3 h w"],
        input_renders: Float[Tensor, "b 3 h w"],
        novel_renders: Float[Tensor, "c 3 h w"],
    ) -> tuple[Pair, Pair]:
        """Return what the input view's and the novel view's discriminator learn from, detached."""
        shown = input_renders.detach()
        return Pair(pictures.detach(), shown), Pair(shown, novel_renders.detach())

    def judged(
        self, input_renders: Float[Tensor, "b 3 h w"], novel_renders: Float[Tensor, "c 3 h w"]
    ) -> tuple[Float[Tensor, "b heads"], Float[Tensor, "c heads"]]:
        """Return the logits of both kinds of render, for the generator's losses: differentiable in the renders.

        The heads get gradients too, which whoever steps only the generator's weights leaves alone.
        """
        return self.input_view(input_renders), self.novel_view(novel_renders)
