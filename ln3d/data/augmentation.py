"""Other objects out of one: its colours and its proportions changed, in every view alike."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ln3d.config.vae import AugmentationConfig
from ln3d.geometry.colour import LUMA
from ln3d.geometry.rays import image_rays


def draw_tint(random: np.random.Generator, config: AugmentationConfig, progress: float) -> Float[np.ndarray, "3 3"]:
    """Return the colour change of one object: the matrix M of colour @ M, by which greys stay as they are."""
    matrix = np.eye(3, dtype=np.float32)
    saturate, factor = random.random(), random.uniform(1.0, config.saturation)
    permute, order = random.random(), random.permutation(3)
    if progress >= config.until:
        return matrix
    if config.saturation > 1 and saturate < config.saturation_probability:
        luma = np.tile(np.array(LUMA, dtype=np.float32)[:, None], (1, 3))
        matrix = (luma + np.float32(factor) * (matrix - luma)).astype(np.float32)
    return matrix[:, order] if permute < config.permutation else matrix


def draw_proportions(
    random: np.random.Generator, config: AugmentationConfig, progress: float
) -> Float[np.ndarray, "3"]:
    """Return the factors on x, y and z that give one object other proportions, x negative where it is mirrored.

    The largest is 1, so that no object outgrows its sphere; a ratio of two is that of two log-uniform numbers.
    """
    mirrored, exponents = random.random() < config.mirror, random.uniform(size=3)
    if progress >= config.until:
        return np.ones(3, dtype=np.float32)
    factors = config.stretch ** (exponents - exponents.max())
    return (factors * (-1 if mirrored else 1, 1, 1)).astype(np.float32)


def deformed(sample: dict[str, Tensor], factors: Float[np.ndarray, "3"]) -> dict[str, Tensor]:
    """Return a training sample (keys as in `VaeBatches`) of the object whose world is multiplied by `factors`.

    Its pictures stay as they are: what looks at them moves with the world. Cameras are then no longer rigid, but
    pixels still have rays, and depths are along these.
    """
    if (factors == 1).all():
        return sample
    factor = torch.from_numpy(factors)
    cameras, side = sample["input_cameras"], sample["input_depth"].shape[-1]
    _, looks = image_rays(cameras, sample["input_intrinsics"], side)
    cameras = torch.cat([cameras[:, :3] * factor[:, None], cameras[:, 3:]], dim=1)
    lengths = (looks * factor).norm(dim=-1).reshape(sample["input_depth"].shape)
    changed = {"input_cameras": cameras, "input_depth": sample["input_depth"] * lengths}
    if "directions" in sample:
        directions = sample["directions"] * factor
        length = directions.norm(dim=-1)
        changed |= {"origins": sample["origins"] * factor, "directions": directions / length[:, None]}
        changed |= {"depth": sample["depth"] * length, "hint": sample["hint"] * length}
    return sample | changed
