"""Files of pretrained weights that decide what a training learns, and that a recipe names without their content."""

from ln3d.backbones.images import local_sha256
from ln3d.config.vae import VaeConfig
from ln3d.errors import WeightsError
from ln3d.stages.freshness import Hashes
from ln3d.training.adversarial_step import view_kinds


def local_weights(config: VaeConfig, started: bool, stated: Hashes) -> dict[str, str]:
    """Return the hashes of the files that stage 1 reads; `started` says that a VAE to start from has the decoder.

    `stated` are those of what is published already: a file that has gone since is taken to be the same. Raises
    WeightsError for any other that is missing.
    """
    names = {}
    if config.decoder.initial is not None and not started:
        names["decoder_start"] = config.decoder.initial
    if view_kinds(config):
        names["discriminators"] = config.discriminators.backbone
    if config.losses.lpips > 0:
        names["perceptual"] = f"lpips:{config.losses.lpips_net}"
    found = {role: _hash(name, stated.get(role)) for role, name in names.items()}
    return {role: sha256 for role, sha256 in found.items() if sha256 is not None}


def _hash(name: str, stated: str | None) -> str | None:
    try:
        return local_sha256(name)
    except WeightsError:
        if stated is None:
            raise
        return stated
