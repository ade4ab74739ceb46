"""Where fetched files are looked for."""

from pathlib import Path

import pytest

from ln3d.cache import cache_folder, packages_folder, weights_folder
from ln3d.config.render import CollectionConfig, DatasetConfig
from ln3d.data.collections.catalogue import list_objects
from ln3d.errors import RecipeError


def test_places_follow_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("LN3D_PACKAGES", raising=False)
    monkeypatch.delenv("LN3D_CACHE", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "ln3d"
    monkeypatch.setenv("LN3D_CACHE", "~/c")
    assert (weights_folder(), packages_folder()) == (tmp_path / "c" / "weights", tmp_path / "c" / "packages")
    monkeypatch.setenv("LN3D_PACKAGES", "here")
    assert packages_folder() == Path.cwd() / "here"
    assert weights_folder() == tmp_path / "c" / "weights"


@pytest.mark.parametrize("variable", ["$LN3D_PACKAGES", "${LN3D_PACKAGES}"])
@pytest.mark.parametrize("said", [True, False])
def test_a_recipe_finds_what_was_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, said: bool
) -> None:
    monkeypatch.setenv("LN3D_CACHE", str(tmp_path))
    monkeypatch.delenv("LN3D_PACKAGES", raising=False)
    if said:
        monkeypatch.setenv("LN3D_PACKAGES", str(tmp_path / "packages"))
    dataset = DatasetConfig(collections=(CollectionConfig(kind="torcs", path=f"{variable}/torcs-data"),))
    with pytest.raises(RecipeError, match=f"{tmp_path}/packages/torcs-data: no such folder") as problem:
        list_objects(dataset)
    assert "ln3d fetch torcs" in problem.value.hint
    (tmp_path / "packages" / "torcs-data").mkdir(parents=True)
    with pytest.raises(RecipeError, match="torcs") as problem:
        list_objects(dataset)
    assert "no such folder" not in problem.value.message
