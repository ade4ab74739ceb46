"""The default text encoder, read from the installed package without importing it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ln3d.backbones import token_embeddings
from ln3d.backbones.token_embeddings import TokenEmbeddings, open_text_encoder
from ln3d.config.diffusion import ConditionConfig
from ln3d.errors import WeightsError


@pytest.fixture(scope="module")
def encoder() -> TokenEmbeddings:
    return TokenEmbeddings(length=6)


def test_prompts_of_any_batch_have_the_same_tokens(encoder: TokenEmbeddings) -> None:
    prompts = ["a wooden boat", "", "a very long sentence about a red racing car with blue wheels"]
    tokens, mask = encoder.encode(prompts)
    assert tokens.shape == (3, 6, 256)
    assert mask.sum(dim=1).tolist() == [3, 0, 6]
    assert not tokens[~mask].any()
    for row, prompt in enumerate(prompts):
        assert torch.equal(encoder.encode([prompt])[0][0], tokens[row])


def test_case_and_outer_space_do_not_matter(encoder: TokenEmbeddings) -> None:
    assert torch.equal(encoder.encode(["  Red CAR "])[0], encoder.encode(["red car"])[0])


def test_related_words_are_closer_than_unrelated_ones(encoder: TokenEmbeddings) -> None:
    def meaning(prompt: str) -> torch.Tensor:
        tokens, mask = encoder.encode([prompt])
        return tokens[mask].mean(dim=0)

    def likeness(one: str, other: str) -> float:
        return torch.cosine_similarity(meaning(one), meaning(other), dim=0).item()

    assert likeness("wooden boat", "sailing ship") > likeness("wooden boat", "table lamp") + 0.2
    assert likeness("red race car", "blue sports car") > likeness("red race car", "wooden chair") + 0.2


def test_the_package_is_not_imported() -> None:
    code = (
        "import sys; from ln3d.backbones.token_embeddings import TokenEmbeddings;"
        "TokenEmbeddings(4).encode(['chair']); sys.exit('wordllama' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_missing_package_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_embeddings, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match="not installed") as problem:
        TokenEmbeddings(4)
    assert "pip install" in problem.value.hint


def _folder(tmp_path: Path) -> Path:
    """Return a copy of the package's layout with a tokenizer of two words and a small table."""
    model = {"type": "WordLevel", "vocab": {"[UNK]": 0, "car": 1}, "unk_token": "[UNK]"}
    fields = ["added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder", "truncation", "padding"]
    document = {"version": "1.0", **dict.fromkeys(fields), "added_tokens": [], "model": model}
    for name in ("weights", "tokenizers"):
        (tmp_path / name).mkdir()
    (tmp_path / token_embeddings._TOKENIZER).write_text(json.dumps(document))
    save_file({"embedding.weight": torch.ones(2, 256)}, tmp_path / token_embeddings._TABLE)
    return tmp_path


def test_each_damaged_file_is_named(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    assert TokenEmbeddings(4, folder).encode(["car"])[1].sum() == 1
    table, tokenizer = folder / token_embeddings._TABLE, folder / token_embeddings._TOKENIZER
    whole = table.read_bytes()
    table.write_bytes(whole[:-100])
    with pytest.raises(WeightsError, match="damaged.*l2_supercat_256"):
        TokenEmbeddings(4, folder)
    save_file({"embedding.weight": torch.ones(2, 8)}, table)
    with pytest.raises(WeightsError, match=r"shape \(2, 8\)"):
        TokenEmbeddings(4, folder)
    save_file({"other": torch.ones(2, 256)}, table)
    with pytest.raises(WeightsError, match="damaged"):
        TokenEmbeddings(4, folder)
    table.unlink()
    with pytest.raises(WeightsError, match="missing.*l2_supercat_256"):
        TokenEmbeddings(4, folder)
    tokenizer.write_text("{")
    with pytest.raises(WeightsError, match="tokenizer.*damaged"):
        TokenEmbeddings(4, folder)
    tokenizer.unlink()
    with pytest.raises(WeightsError, match="tokenizer.*missing"):
        TokenEmbeddings(4, folder)


def test_clip_is_a_clear_error_until_it_is_built() -> None:
    with pytest.raises(WeightsError, match="CLIP text encoder is not built yet"):
        open_text_encoder(ConditionConfig(kind="text", text_encoder="clip"))
    assert open_text_encoder(ConditionConfig(kind="text")).width == 256
