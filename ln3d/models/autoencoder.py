"""Stage 1's networks under one roof: encoder, decoder, upsampler and the field's MLP."""

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from ln3d.config.vae import EncoderConfig, VaeConfig
from ln3d.errors import RecipeError
from ln3d.models.decoder import Decoder, field_head
from ln3d.models.encoder import AlignedEncoder, ImageEncoder
from ln3d.models.posterior import Posterior
from ln3d.models.upsampler import Upsampler, upsampling_factor
from ln3d.models.views import Views

_ENCODERS = {"image": ImageEncoder, "aligned": AlignedEncoder}


def latent_side(config: EncoderConfig) -> int:
    """Return the side of the latent that an encoder makes of its input resolution."""
    return int(config.resolution // (config.patch * 2 ** (len(config.multipliers) - 1)))


class Autoencoder(nn.Module):
    """The 3D-aware VAE without its renderer: views -> posterior -> latent -> feature planes."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        if latent_side(config.encoder) != config.latent.resolution:
            raise RecipeError(
                f"the encoder makes latents of {latent_side(config.encoder)} cells a side, "
                f"the recipe says {config.latent.resolution}",
                "make vae.latent.resolution = encoder.resolution / (encoder.patch * 2^(len(encoder.multipliers) - 1))",
            )
        self.config = config
        self.encoder = _ENCODERS[config.encoder.kind](config.encoder, config.latent.channels)
        self.decoder = Decoder(config.decoder, config.latent, config.training.gradient_checkpointing)
        self.upsampler = Upsampler(config.upsampler, config.decoder.width, config.field.channels)
        self.head = field_head(config.field.channels, config.field.hidden, config.field.layers)

    @property
    def plane_side(self) -> int:
        """Side of the feature planes in cells."""
        return self.decoder.side * upsampling_factor(self.config.upsampler)

    def encode(self, views: Views) -> Posterior:
        """Return the posterior over the latents of the objects seen in `views`."""
        return Posterior.from_parameters(self.encoder(views), self.config.latent.initial_log_variance)

    def decode(self, latent: Float[Tensor, "b 3 c h w"]) -> Float[Tensor, "b 3 f H W"]:
        """Return fp32 feature planes, which `head` turns into density and colour point by point."""
        tokens = rearrange(self.decoder(latent), "b p h w d -> (b p) h w d")
        return rearrange(self.upsampler(tokens), "(b p) c h w -> b p c h w", p=3).float()
