"""What holds for every test: no network, no display, no writing outside tmp_path, equal random examples every time."""

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from ln3d.artifacts.workspace import Workspace
    from ln3d.config.recipe import Recipe
    from ln3d.data.shards import ShardSet

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is there: processes of many threads starve each other
settings.register_profile("ln3d", deadline=None, derandomize=True, database=None)
settings.load_profile("ln3d")

REPOSITORY = Path(__file__).parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse connections to other machines (loopback stays, for process groups)."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else None
        if host is not None and host not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test reached for the network: {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("DISPLAY", raising=False)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path) -> Iterator[None]:
    """Run in tmp_path, so that a relative path never lands in the repository."""
    before = Path.cwd()
    os.chdir(tmp_path)
    yield
    os.chdir(before)


@pytest.fixture
def exact_products() -> Iterator[None]:
    """Convolve in fp32 on a CUDA device where the CPU is compared with it, not in TF32; matrix products do anyway."""
    import torch

    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.fixture(scope="session")
def repository() -> Path:
    """Return the root of the repository."""
    return REPOSITORY


@pytest.fixture(scope="session")
def tiny_recipe() -> "Callable[..., Recipe]":
    """Return a function from overrides such as `vae.losses.l2=0` to the recipe tests/tiny.yaml with them."""
    from ln3d.config.load import load_recipe

    return lambda *overrides: load_recipe(REPOSITORY / "tests" / "tiny.yaml", overrides)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, tiny_recipe: "Callable[..., Recipe]") -> "Workspace":
    """Return a workspace with the shards of the tiny recipe. It is everybody's: nobody may write into it."""
    from ln3d.artifacts.workspace import Workspace
    from ln3d.stages import render_dataset
    from ln3d.talk import Talk

    workspace = Workspace(tmp_path_factory.mktemp("tiny"))
    render_dataset.run(tiny_recipe(), workspace, Talk(0), workers=1)
    return workspace


@pytest.fixture(scope="session")
def tiny_shards(tiny_run: "Workspace") -> "ShardSet":
    """Return the shards of the tiny recipe: nine objects in three splits, six views of 16 x 16."""
    from ln3d.data.shards import ShardSet

    return ShardSet(tiny_run.open("shards"))


@pytest.fixture
def own_run(tiny_run: "Workspace", tmp_path: Path) -> "Workspace":
    """Return a workspace of the test's own with the shards of the tiny recipe."""
    from ln3d.artifacts.workspace import Workspace

    shutil.copytree(tiny_run.path("shards"), tmp_path / "run" / "shards")
    return Workspace(tmp_path / "run")
