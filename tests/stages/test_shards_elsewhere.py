"""Shards that lie at an address: trained on, encoded and inspected as those in the workspace are, bit for bit."""

from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from ln3d.artifacts.workspace import Workspace
from ln3d.config.recipe import Recipe
from ln3d.errors import ArtifactError, RecipeError
from ln3d.stages import encode, inspect, train_vae
from ln3d.talk import Talk

RecipeOf = Callable[..., Recipe]
QUIET = Talk(0)
SHORT = ("vae.training.steps=2", "vae.training.validate_every=2", "vae.training.checkpoint_every=2")


@pytest.fixture
def address(tiny_run: Workspace) -> Iterator[str]:
    """Return the address of a copy of the tiny recipe's shards in this process' memory."""
    files = fsspec.filesystem("memory")
    for path in tiny_run.path("shards").iterdir():
        files.pipe_file(f"/remote/shards/{path.name}", path.read_bytes())
    yield "memory://remote/shards"
    files.rm("/remote", recursive=True)


def _hashes(workspace: Workspace, kind: str) -> dict[str, str]:
    """Return the hashes of an artifact's files, but for the metrics, which hold times, and their curve."""
    files = workspace.open(kind, verify=True).manifest.files
    return {name: entry.sha256 for name, entry in files.items() if name not in ("metrics.jsonl", "curve.png")}


def test_training_and_encoding_are_those_of_the_folder_bit_for_bit(
    own_run: Workspace, tiny_run: Workspace, tmp_path: Path, address: str, tiny_recipe: RecipeOf
) -> None:
    train_vae.run(tiny_recipe(*SHORT), own_run, QUIET)
    encode.run(tiny_recipe(*SHORT), own_run, QUIET)
    for name, place, workers in (("memory", address, 0), ("file", f"file://{tiny_run.path('shards')}", 1)):
        elsewhere = Workspace(tmp_path / name, place)
        recipe = tiny_recipe(*SHORT, f"vae.training.workers={workers}")
        train_vae.run(recipe, elsewhere, QUIET)
        assert elsewhere.open("vae").manifest.inputs == own_run.open("vae").manifest.inputs
        assert _hashes(elsewhere, "vae") == _hashes(own_run, "vae")
        written = elsewhere.open("vae").id
        assert train_vae.run(recipe, elsewhere, QUIET)["id"] == written
        encode.run(recipe, elsewhere, QUIET)
        assert _hashes(elsewhere, "latents") == _hashes(own_run, "latents")
        assert not elsewhere.path("shards").exists()


def test_a_folder_is_a_place_too_and_wins_over_the_workspace(
    own_run: Workspace, tiny_run: Workspace, tmp_path: Path
) -> None:
    (own_run.path("shards") / "manifest.json").unlink()
    assert not Workspace(own_run.root).has_shards()
    elsewhere = Workspace(own_run.root, tiny_run.path("shards"))
    assert elsewhere.has_shards() and elsewhere.shards() == tiny_run.open("shards")
    with pytest.raises(ArtifactError, match="holds some") as caught:
        Workspace(tmp_path, str(tiny_run.root)).shards()
    assert str(tiny_run.path("shards")) in caught.value.hint


def test_a_plan_says_whether_there_are_shards(tmp_path: Path, address: str, tiny_recipe: RecipeOf) -> None:
    for place, there in ((address, True), ("memory://nowhere", False), (str(tmp_path / "none"), False)):
        workspace = Workspace(tmp_path / "run", place)
        assert train_vae.run(tiny_recipe(), workspace, QUIET, dry_run=True)["shards"] is there
    with pytest.raises(RecipeError, match="nowhere://x: Protocol not known"):
        train_vae.run(tiny_recipe(), Workspace(tmp_path / "run", "nowhere://x"), QUIET, dry_run=True)
    assert not (tmp_path / "run").exists()


def test_without_shards_the_remedy_names_the_option(tmp_path: Path, tiny_recipe: RecipeOf) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(ArtifactError, match="has no shards yet") as caught:
        train_vae.run(tiny_recipe(), Workspace(tmp_path / "run"), QUIET)
    assert caught.value.hint.endswith(f"-w {tmp_path / 'run'}, or say where shards are: --shards PLACE")


def test_inspection_reads_what_it_tells_of(tiny_run: Workspace, address: str, tmp_path: Path) -> None:
    here = inspect.run(tiny_run.path("shards"), QUIET)
    there = inspect.run(address, QUIET, output=tmp_path / "cameras.png")
    differing = {"path", "verified", "files_not_verified"}
    assert {name for name in here if here[name] != there[name]} == differing and here.keys() == there.keys()
    assert (there["path"], there["verified"], here["verified"]) == (address, False, True)
    whole = [name for name in there["files"] if name.endswith(".json")]
    assert there["files_not_verified"] == len(there["files"]) - len(whole) == 4  # three shards and a picture
    assert (tmp_path / "cameras.png").is_file()
    assert f"path  {address}" in inspect.describe(there)
    fsspec.filesystem("memory").pipe_file("/remote/shards/catalogue.json", b"{}" + bytes(10))
    with pytest.raises(ArtifactError, match=f"^{address}/catalogue.json is damaged"):
        inspect.run(address, QUIET)
