"""Frozen text encoders: prompts in, tokens out.

The default one is the embedding table of WordLlama (MIT): 32,000 tokens x 256, distilled from large
language models. Its package is read as data and never imported, which keeps the start of the program fast.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer
from torch import Tensor

from ln3d.config.diffusion import ConditionConfig
from ln3d.errors import WeightsError

_TABLE = Path("weights", "l2_supercat_256.safetensors")
_TOKENIZER = Path("tokenizers", "l2_supercat_tokenizer_config.json")
_REMEDY = "reinstall it with: pip install --force-reinstall --no-deps 'wordllama==0.4.0.post1'"


class TextEncoder(Protocol):
    """A frozen text encoder."""

    width: int
    """Channels of a token."""

    def encode(self, prompts: Sequence[str]) -> tuple[Float[Tensor, "b l d"], Bool[Tensor, "b l"]]:
        """Return tokens padded to a fixed length, and a mask that is True where they are real."""
        ...


class TokenEmbeddings:
    """WordLlama's token embeddings, one vector per word piece, without any context."""

    width = 256

    def __init__(self, length: int, folder: Path | None = None) -> None:
        """Open the table for prompts of at most `length` tokens; `folder` defaults to the installed package.

        Raises WeightsError with the remedy where the package is missing or damaged.
        """
        folder = _installed_folder() if folder is None else folder
        self.length = length
        self._tokenizer = _open_tokenizer(folder / _TOKENIZER)
        self._table = _open_table(folder / _TABLE, self.width)

    def encode(self, prompts: Sequence[str]) -> tuple[Float[Tensor, "b l d"], Bool[Tensor, "b l"]]:
        """Return tokens (b, length, 256) in fp32 and their mask; case is ignored, what is too long is cut.

        Padding is zero, and its length does not depend on the prompts: a prompt's tokens are the same in
        any batch. An empty prompt has no real token.
        """
        tokens = torch.zeros(len(prompts), self.length, self.width)
        mask = torch.zeros(len(prompts), self.length, dtype=torch.bool)
        for row, prompt in enumerate(prompts):
            ids = self._tokenizer.encode(prompt.strip().lower(), add_special_tokens=False).ids[: self.length]
            tokens[row, : len(ids)] = self._table[ids].float()
            mask[row, : len(ids)] = True
        return tokens, mask


def open_text_encoder(config: ConditionConfig) -> TextEncoder:
    """Return the frozen text encoder that a recipe names; WeightsError where it cannot be had."""
    if config.text_encoder == "clip":
        raise WeightsError(
            "the CLIP text encoder is not built yet",
            "use diffusion.condition.text_encoder=wordllama for the time being",
        )
    return TokenEmbeddings(config.tokens)


def _installed_folder() -> Path:
    spec = find_spec("wordllama")
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError("the token embeddings are missing: package `wordllama` is not installed", _REMEDY)
    return Path(spec.submodule_search_locations[0])


def _open_tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WeightsError(f"the tokenizer of the token embeddings is missing: {path}", _REMEDY) from None
    except Exception as problem:  # the binding raises bare Exception for a malformed file
        raise WeightsError(f"the tokenizer of the token embeddings is damaged: {path}: {problem}", _REMEDY) from None


def _open_table(path: Path, width: int) -> Float[Tensor, "words d"]:
    try:
        with safe_open(path, framework="pt") as tensors:
            table = tensors.get_tensor("embedding.weight")
    except FileNotFoundError:
        raise WeightsError(f"the token embeddings are missing: {path}", _REMEDY) from None
    except SafetensorError as problem:
        raise WeightsError(f"the token embeddings are damaged: {path}: {problem}", _REMEDY) from None
    if table.ndim != 2 or table.shape[1] != width:
        raise WeightsError(f"the token embeddings have shape {tuple(table.shape)} instead of (words, {width})", _REMEDY)
    return table
