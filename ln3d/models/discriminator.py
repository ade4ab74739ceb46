"""Vision-aided discriminators (Kumari et al. 2022): small trained heads on a frozen network, for each kind of view."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ln3d.backbones.frozen_maps import FrozenMaps, Maps
from ln3d.nn.convolution import group_norm

INPUT_VIEW, NOVEL_VIEW = VIEW_KINDS = ("input_view", "novel_view")
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
    """A trained head on every level of a frozen network's maps, and one on its summary."""

    def __init__(self, maps: FrozenMaps, hidden: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(MapHead(width, hidden) for width in maps.widths)
        self.summary = nn.Sequential(
            nn.Linear(maps.summary_width, hidden), nn.LeakyReLU(_SLOPE), nn.Linear(hidden, 1), nn.Flatten(0)
        )

    def forward(self, seen: Maps) -> Float[Tensor, "b heads"]:
        """Return one logit per head, high for what is taken for real, of what the frozen network makes of pictures.

        Heads are small, and always compute in fp32: oneDNN's bf16 gradient of a strided convolution is at times not
        finite where the map is a single place.
        """
        with torch.autocast(seen.summary.device.type, enabled=False):
            logits = [head(level.float()) for head, level in zip(self.levels, seen.levels, strict=True)]
            return torch.stack([*logits, self.summary(seen.summary.float())], dim=1)


class Shown(NamedTuple):
    """The pictures of a step that discriminators look at, sRGB in [0, 1]."""

    pictures: Float[Tensor, "b 3 h w"]
    """True ones of input views."""
    input_renders: Float[Tensor, "b 3 h w"]
    """Renders of the same pixels."""
    novel_renders: Float[Tensor, "c 3 h w"]
    """Renders of views that the encoder did not see."""


class Seen(NamedTuple):
    """What one discriminator compares, as the frozen network sees it."""

    real: Maps
    """Without a way back to the generator."""
    fake: Maps


class Lesson(NamedTuple):
    """The logits that a discriminator learns from."""

    real: Float[Tensor, "b heads"]
    fake: Float[Tensor, "c heads"]


class Slope(NamedTuple):
    """Logits that can be differentiated twice, and the leaves that they were made of."""

    pictures: Float[Tensor, "b 3 h w"]
    logits: Float[Tensor, "b heads"]


class ViewDiscriminators(nn.ModuleDict):
    """Discriminators of input-view and of novel-view renders on one frozen network (LN3Diff, section 3.2).

    Those of the two that `kinds` names are sub-modules of these names. `maps` is used and not owned: its weights are
    neither trained nor saved with the heads.
    """

    def __init__(self, maps: FrozenMaps, hidden: int, kinds: Sequence[str] = VIEW_KINDS) -> None:
        super().__init__({kind: Discriminator(maps, hidden) for kind in kinds})
        self._maps = (maps,)  # in a tuple, which hides it from the module's own state

    @property
    def maps(self) -> FrozenMaps:
        """The frozen network."""
        return self._maps[0]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "ViewDiscriminators":
        if isinstance(self.maps, nn.Module):
            self.maps._apply(fn, recurse)  # it moves to the heads' device, though it is none of their sub-modules
        return super()._apply(fn, recurse)

    def look(self, shown: Shown) -> dict[str, Seen]:
        """Return what each of the discriminators compares; fake renders stay differentiable.

        To the novel views' one the *renders* of input views are the real pictures: with true pictures it could tell
        the views apart by their sharpness alone, and the latent collapses. The frozen network sees every picture once.
        """
        seen, faked = {}, INPUT_VIEW in self
        inputs = self.maps(shown.input_renders if faked else shown.input_renders.detach())
        if faked:
            seen[INPUT_VIEW] = Seen(self.maps(shown.pictures.detach()), inputs)
        if NOVEL_VIEW in self:
            seen[NOVEL_VIEW] = Seen(_detached(inputs), self.maps(shown.novel_renders))
        return seen

    def judged(self, seen: Mapping[str, Seen]) -> dict[str, Float[Tensor, "b heads"]]:
        """Return each discriminator's logits of its fakes, for the generator's loss: the heads get no gradient."""
        self.requires_grad_(False)
        logits = {kind: head(seen[kind].fake) for kind, head in self.items()}
        self.requires_grad_(True)
        return logits

    def lessons(self, seen: Mapping[str, Seen]) -> dict[str, Lesson]:
        """Return each discriminator's logits of real and fake, for its own loss: only the heads get a gradient."""
        return {kind: Lesson(head(seen[kind].real), head(_detached(seen[kind].fake))) for kind, head in self.items()}

    def slopes(self, shown: Shown) -> dict[str, Slope]:
        """Return real pictures that require a gradient and each discriminator's logits of them, for R1."""
        real = {INPUT_VIEW: shown.pictures, NOVEL_VIEW: shown.input_renders}
        leaves = {kind: real[kind].detach().requires_grad_() for kind in self}
        return {kind: Slope(leaf, self[kind](self.maps(leaf, twice=True))) for kind, leaf in leaves.items()}


def _detached(seen: Maps) -> Maps:
    return Maps([level.detach() for level in seen.levels], seen.summary.detach())
