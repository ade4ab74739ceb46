"""The diffusion transformer over the tokens of the three planes, and the denoiser built around it."""

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ln3d.config.diffusion import DiffusionConfig, DitConfig
from ln3d.config.vae import LatentConfig
from ln3d.errors import RecipeError
from ln3d.models.conditioners import Condition, TextConditioner, build_conditioner
from ln3d.nn.attention import CrossAttention, FeedForward, SelfAttention
from ln3d.nn.modulation import modulate, plain_norm, zeroed
from ln3d.nn.positions import sincos_2d, timestep_embedding

_TIME_CHANNELS = 256


class Table(nn.Module):
    """Six learned vectors of one block, added to the six that all blocks share (AdaLN-single, Chen et al. 2024)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(6 * width) / width**0.5)

    def forward(self, shared: Float[Tensor, "b six_d"]) -> Float[Tensor, "b six_d"]:
        """Return the block's own version of the shared vectors."""
        return shared + self.vectors


class DitBlock(nn.Module):
    """Attention, cross-attention where asked for, and a feed-forward layer, each behind AdaLN (DiT, section 3.2).

    With `own_modulation` the block maps the signal to its six vectors itself (AdaLN-zero); otherwise the
    signal is six vectors that all blocks share.
    """

    def __init__(self, width: int, heads: int, own_modulation: bool, cross: bool) -> None:
        super().__init__()
        self.attention_norm = plain_norm(width)
        self.attention = SelfAttention(width, heads)
        self.cross_norm = nn.LayerNorm(width) if cross else None
        self.cross = CrossAttention(width, width, heads) if cross else None
        if self.cross is not None:
            zeroed(self.cross.out)
        self.forward_norm = plain_norm(width)
        self.feed_forward = FeedForward(width)
        self.modulation = _projection(width, 6) if own_modulation else Table(width)

    def forward(
        self,
        x: Float[Tensor, "b l d"],
        signal: Float[Tensor, "b k"],
        context: Float[Tensor, "b m d"] | None,
        mask: Bool[Tensor, "b m"] | None,
    ) -> Float[Tensor, "b l d"]:
        """Return the tokens after the block; k is d with the block's own modulation, 6 d otherwise."""
        six = rearrange(self.modulation(signal), "b (six d) -> b six d", six=6)
        shift, scale, gate, shift_forward, scale_forward, gate_forward = six.chunk(6, dim=1)
        attended = modulate(self.attention_norm(x), shift, scale)
        if self.cross is None or self.cross_norm is None:
            x = x + gate * self.attention(attended, context, mask)
        else:
            x = x + gate * self.attention(attended)
            x = x if context is None else x + self.cross(self.cross_norm(x), context, mask)
        return x + gate_forward * self.feed_forward(modulate(self.forward_norm(x), shift_forward, scale_forward))


class Dit(nn.Module):
    """Velocity of a noisy tri-plane latent (Peebles & Xie 2023; the planes' tokens form one sequence)."""

    def __init__(
        self, config: DitConfig, latent: LatentConfig, conditional: bool, gradient_checkpointing: bool
    ) -> None:
        super().__init__()
        if latent.resolution % config.patch:
            raise RecipeError(
                f"patches of {config.patch} do not tile planes of {latent.resolution} x {latent.resolution}",
                "choose diffusion.dit.patch so that it divides vae.latent.resolution",
            )
        width, self.patch, self.side = config.width, config.patch, latent.resolution // config.patch
        self.gradient_checkpointing = gradient_checkpointing
        self.enter = nn.Linear(latent.channels * config.patch**2, width)
        self.register_buffer("places", sincos_2d(self.side, self.side, width), persistent=False)
        self.planes = nn.Parameter(torch.randn(3, 1, width) * 0.02)
        self.time = nn.Sequential(nn.Linear(_TIME_CHANNELS, width), nn.SiLU(), nn.Linear(width, width))
        own = config.modulation == "zero"
        self.shared = nn.Identity() if own else _projection(width, 6)
        cross = conditional and config.context == "cross"
        self.blocks = nn.ModuleList(DitBlock(width, config.heads, own, cross) for _ in range(config.depth))
        self.last_norm = plain_norm(width)
        self.last_modulation = _projection(width, 2)
        self.leave = zeroed(nn.Linear(width, latent.channels * config.patch**2))

    def forward(
        self, latents: Float[Tensor, "b 3 c h w"], t: Float[Tensor, "b"], condition: Condition | None = None
    ) -> Float[Tensor, "b 3 c h w"]:
        """Return the velocity at times `t` in [0, 1], in fp32 whatever autocast is on."""
        # One sequence of all planes' patches: the patch layers are shared, the plane embedding tells planes apart.
        patches = rearrange(latents, "b p c (h u) (w v) -> b p (h w) (c u v)", u=self.patch, v=self.patch)
        x = rearrange(self.enter(patches) + self.places + self.planes, "b p l d -> b (p l) d")
        signal = self.time(timestep_embedding(t, _TIME_CHANNELS))
        context, mask = (None, None) if condition is None else (condition.tokens, condition.mask)
        if condition is not None:
            signal = signal + condition.pooled
        shared = self.shared(signal)
        for block in self.blocks:
            if self.gradient_checkpointing and self.training:
                x = checkpoint(block, x, shared, context, mask, use_reentrant=False)
            else:
                x = block(x, shared, context, mask)
        shift, scale = rearrange(self.last_modulation(signal), "b (two d) -> two b 1 d", two=2)
        out = self.leave(modulate(self.last_norm(x), shift, scale)).float()
        return rearrange(
            out, "b (p h w) (c u v) -> b p c (h u) (w v)", p=3, h=self.side, w=self.side, u=self.patch, v=self.patch
        )


def _projection(width: int, vectors: int) -> nn.Sequential:
    return nn.Sequential(nn.SiLU(), zeroed(nn.Linear(width, vectors * width)))


class Denoiser(nn.Module):
    """A velocity network and the conditioner trained with it (None: unconditional)."""

    def __init__(self, network: Dit, conditioner: TextConditioner | None) -> None:
        super().__init__()
        self.network = network
        self.conditioner = conditioner

    def forward(self, latents: Tensor, t: Tensor, *condition: Tensor) -> Float[Tensor, "b 3 c h w"]:
        """Return the velocity of standardised latents (b 3 c h w) at times (b) under a `Condition`'s fields."""
        return self.network(latents, t, Condition(*condition) if condition else None)


def build_denoiser(config: DiffusionConfig, latent: LatentConfig) -> Denoiser:
    """Return the untrained denoiser of a recipe; RecipeError for what is not built yet or does not fit together."""
    built = {"framework": "flow", "network": "dit"}
    unbuilt = [name for name, value in built.items() if getattr(config, name) != value]
    if unbuilt:
        raise RecipeError(
            "not built yet: " + " and ".join(f"diffusion.{name} `{getattr(config, name)}`" for name in unbuilt),
            "use " + " and ".join(f"diffusion.{name}={built[name]}" for name in unbuilt) + " for the time being",
        )
    conditioner = build_conditioner(config.condition, config.dit.width, config.dit.heads)
    network = Dit(config.dit, latent, conditioner is not None, config.training.gradient_checkpointing)
    return Denoiser(network, conditioner)
