from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ln3d.config.load import load_recipe, recipe_from_dict
from ln3d.config.recipe import Recipe
from ln3d.errors import RecipeError

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str, name: str = "tiny.yaml") -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def problems(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    lines = caught.value.message.replace(f"{path.parent}/", "").splitlines()
    return [line.strip() for line in lines[1:]] if len(lines) > 1 else lines


def test_an_empty_file_is_the_defaults_under_its_own_name(write: Write) -> None:
    assert load_recipe(write("")) == Recipe(name="tiny")
    assert load_recipe(write("# nothing\n", "Other.yaml")).name == "other"


def test_values_are_yaml_1_2(write: Write) -> None:
    recipe = load_recipe(
        write("""
            name: 'no'
            vae:
              training: {learning_rate: 1e-3, betas: [0.9, 1e-1], steps: 1_000_000, final_learning_rate: 1}
              supervision: {resolution: ~}
              losses: {kl: .5}
        """)
    )
    assert recipe.name == "no"
    assert recipe.vae.training.learning_rate == 0.001 and recipe.vae.training.betas == (0.9, 0.1)
    assert recipe.vae.training.steps == 1_000_000 and recipe.vae.supervision.resolution is None
    assert recipe.vae.losses.kl == 0.5


@pytest.mark.parametrize(
    "value", ["yes", "'3'", "3.0", "true", "0x10", "010", "1:30", "2001-01-01", "[3]", "null", ".inf"]
)
def test_nothing_is_guessed_about_numbers(write: Write, value: str) -> None:
    assert problems(write(f"seed: {value}"))[0].startswith("tiny.yaml:1: seed: ")


def test_all_problems_come_at_once_in_one_line_each_with_place_and_suggestion(write: Write) -> None:
    path = write("""\
name: tiny
vae:
  decoder:
    dpeth: 4
    variant: dti
  latent: 5
  decoder: {}
dataset:
  collections:
    - kind: parametric
    - {kind: folder,
       limit: 0}
cake: 1
""")
    assert problems(path, "vae.decoder.heads=many", "seed", "x.y=1") == [
        "tiny.yaml:4: vae.decoder.dpeth: unknown key; did you mean depth?",
        "tiny.yaml:5: vae.decoder.variant: 'dti' is not one of conv, vit, dit; did you mean dit?",
        "tiny.yaml:6: vae.latent: must be a section with keys of its own, not 5",
        "tiny.yaml:7: vae.decoder is given twice (first at tiny.yaml:3)",
        "tiny.yaml:12: dataset.collections.1.limit: should be greater than or equal to 1, not 0",
        "tiny.yaml:13: cake: unknown key; known: name, seed, dataset, vae, diffusion, mesh, evaluation",
        "--set seed: must look like section.key=value",
        "--set vae.decoder.heads=many: vae.decoder.heads: should be a valid integer, not 'many'",
        "--set x.y=1: x: unknown key; known: name, seed, dataset, vae, diffusion, mesh, evaluation",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("vae: [1", "tiny.yaml:1: "),
        ("- a\n- b\n", "tiny.yaml:1: a recipe is a mapping of sections, not a list"),
        ("a: &x 1\nb: *x\n", "tiny.yaml:1: anchors and aliases are not allowed"),
        ("a: b: c\n", "tiny.yaml:1: mapping values are not allowed here"),
        ("x: !!python/object/apply:os.system [ls]\n", "could not determine a constructor|unknown key"),
        ("? [1, 2]\n: 3\n", "tiny.yaml:1: a key must be a word"),
        ("name: 'Not A Name'", "tiny.yaml:1: name: String should match pattern"),
        ("\tname: x", "tiny.yaml:1: "),
        ("name: \x08", "special characters are not allowed"),
        ("seed: " + "1" * 5000, "digits"),
        ("[" * 3000, "nested too deeply|expected the node content"),
    ],
)
def test_odd_files(write: Write, text: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        load_recipe(write(text))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"name: \xe9")
    for path, words in [("nothing", "there is no recipe"), ("latin", "cannot read"), (".", "cannot read")]:
        with pytest.raises(RecipeError, match=words):
            load_recipe(tmp_path / path)


def test_extends_merges_sections_and_replaces_lists(write: Write) -> None:
    write(
        """
name: base
seed: 5
dataset: {collections: [{kind: folder, path: a}, {kind: folder, path: b}], resolution: 32}
vae: {decoder: {depth: 3, width: 64}}
""",
        "base.yaml",
    )
    recipe = load_recipe(
        write("extends: base.yaml\ndataset: {collections: [{kind: parametric}]}\nvae: {decoder: {depth: 4}}")
    )
    assert (recipe.name, recipe.seed, recipe.dataset.resolution) == ("tiny", 5, 32)
    assert [c.kind for c in recipe.dataset.collections] == ["parametric"]
    assert (recipe.vae.decoder.depth, recipe.vae.decoder.width) == (4, 64)


def test_a_problem_is_placed_in_the_file_that_wrote_it(write: Write) -> None:
    write("vae:\n  decoder:\n    width: 1\n    depth: 0\n", "base.yaml")
    found = problems(write("extends: base.yaml\nvae:\n  decoder:\n    depth: -1\n"))
    assert [line.split(": should")[0] for line in found] == [
        "base.yaml:3: vae.decoder.width",
        "tiny.yaml:4: vae.decoder.depth",
    ]


def test_extends_goes_one_level_deep(write: Write) -> None:
    write("seed: 1", "a.yaml")
    write("extends: a.yaml", "b.yaml")
    assert "extends another file itself" in problems(write("extends: b.yaml"))[0]
    assert "there is no" in problems(write("\nextends: c.yaml"))[0]
    assert problems(write("\nextends: [a.yaml]"))[0].startswith("tiny.yaml:2: extends")


def test_overrides_win_and_reach_into_lists(write: Write) -> None:
    path = write("dataset: {collections: [{kind: folder, path: x}]}\nvae: {decoder: {depth: 3}}")
    recipe = load_recipe(
        path,
        [
            "vae.decoder.depth=12",
            "vae.decoder.depth=13",
            "dataset.collections.0.path=/data/a=b",
            "vae.training.betas=[0.5, 0.6]",
            "diffusion.condition={kind: text, tokens: 8}",
            "mesh.iso=null",
        ],
    )
    assert recipe.vae.decoder.depth == 13
    assert recipe.dataset.collections[0].path == "/data/a=b"
    assert recipe.vae.training.betas == (0.5, 0.6)
    assert (recipe.diffusion.condition.kind, recipe.diffusion.condition.tokens) == ("text", 8)


@pytest.mark.parametrize("value", ["(0.5, 0.6)", "0.5, 0.6", "0.5"])
def test_lists_are_written_in_brackets(write: Write, value: str) -> None:
    override = f"vae.discriminators.betas={value}"
    (problem,) = problems(write("seed: 0"), override)
    assert problem.startswith(f"--set {override}: vae.discriminators.betas: must be a list, as in [1, 2], not ")
    recipe = load_recipe(write("seed: 0"), ["vae.discriminators.betas=[0.5, 0.6]", "vae.discriminators.betas.0=0"])
    assert recipe.vae.discriminators.betas == (0, 0.6)


@pytest.mark.parametrize(
    "override", ["=1", "a..b=1", "seed.x=1", "dataset.collections.7.kind=folder", "mesh.iso=[", "vae.0=1"]
)
def test_overrides_that_lead_nowhere_name_themselves(write: Write, override: str) -> None:
    path = write("seed: 0\ndataset: {collections: [{kind: folder, path: x}]}")
    assert all(line.startswith(f"--set {override}") for line in problems(path, override))


@given(st.text(max_size=40), st.text(max_size=20))
def test_no_text_crashes_the_reader(tmp_path_factory: pytest.TempPathFactory, text: str, override: str) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "tiny.yaml"
    path.write_text(text, encoding="utf-8", errors="replace")
    for overrides in ((), (override,), (f"seed={override}",)):
        try:
            load_recipe(path, overrides)
        except RecipeError as error:
            assert error.message


def test_a_stored_recipe_comes_back_equal(write: Write) -> None:
    recipe = load_recipe(
        write("vae: {training: {betas: [0.5, 0.6]}}\ndataset: {collections: [{kind: folder, path: x}]}")
    )
    assert recipe_from_dict(recipe.model_dump(mode="json")) == recipe
    with pytest.raises(RecipeError, match="manifest: sede: unknown key; did you mean seed"):
        recipe_from_dict({"name": "x", "sede": 1})
