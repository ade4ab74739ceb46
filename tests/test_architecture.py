"""The house rules that a machine can check: imports point down, files stay short, nothing unsafe is loaded."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "ln3d").rglob("*.py"))
LAYERS = [
    {"cli"},
    {"stages"},
    {"training", "generation", "report"},
    {"models", "losses", "diffusion", "rendering", "data", "metrics", "export"},
    {"nn", "geometry", "raycast", "backbones", "artifacts"},
    {"config"},
    {"talk", "runtime", "seeding", "cache", "pretrained"},
    {"errors"},
]
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
LONGEST_FILE = 400
UNSAFE = {"pickle", "dill", "joblib", "shelve", "marshal", "cloudpickle"}
CHECKED = {("ln3d.backbones.inception", "torch.jit.load")}  # of bytes whose hash stands in the program


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in FILES}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imports(path: Path, *, only_at_import: bool = False) -> Iterator[str]:
    """Yield every module named in an import statement; those inside functions are left out with `only_at_import`."""
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            yield from {
                f"{node.module}.{a.name}" if f"{node.module}.{a.name}" in MODULES else str(node.module)
                for a in node.names
            }
        elif only_at_import and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        elif only_at_import and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        pending.extend(ast.iter_child_nodes(node))


def test_every_room_has_its_place() -> None:
    assert {room(name) for name in MODULES} - {"", "__main__"} <= LEVEL.keys()


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_down(name: str) -> None:
    here = room(name)
    if here in ("", "__main__"):
        return
    for target in imports(MODULES[name]):
        there = room(target) if target.split(".")[0] == "ln3d" else ""
        if there and there != here:
            assert LEVEL[here] < LEVEL[there], f"{name} imports {target}"


def test_there_are_no_cycles() -> None:
    graph = {name: {t for t in imports(path, only_at_import=True) if t in MODULES} for name, path in MODULES.items()}
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("name", MODULES)
def test_files_stay_short(name: str) -> None:
    assert len(MODULES[name].read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE


@pytest.mark.parametrize(
    "name", [n for n in MODULES if room(n) in ("", "__main__", "cli", "config", "errors", "talk", "runtime")]
)
def test_the_command_line_starts_without_torch(name: str) -> None:
    assert "torch" not in {target.split(".")[0] for target in imports(MODULES[name], only_at_import=True)}
    if room(name) in ("cli", "config"):
        assert "torch" not in {target.split(".")[0] for target in imports(MODULES[name])}


@pytest.mark.parametrize("name", MODULES)
def test_nothing_is_loaded_that_could_run_code(name: str) -> None:
    assert not {target.split(".")[0] for target in imports(MODULES[name])} & UNSAFE
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and (name, ast.unparse(node)) not in CHECKED:
            assert ast.unparse(node) not in (
                "torch.load",
                "torch.save",
                "torch.jit.load",
                "yaml.load",
                "yaml.unsafe_load",
            )
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert isinstance(node.value, ast.Constant) and node.value.value is False
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("eval", "exec")


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_is(name: str) -> None:
    assert ast.get_docstring(ast.parse(MODULES[name].read_text(encoding="utf-8")))
