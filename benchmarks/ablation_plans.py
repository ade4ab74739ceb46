"""The rows that `ablation.py` trains and compares: recipes and what is changed in them, as data."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ln3d.config.load import load_recipe
from ln3d.config.recipe import Recipe

RECIPES = Path(__file__).parents[1] / "recipes" / "ablation"
SCHEDULE = (
    "vae.training.steps",
    "vae.training.warmup",
    "vae.losses.kl_start",
    "vae.losses.kl_end",
    "vae.discriminators.start",
)
"""What keeps its share of a training that is made shorter or longer."""


STEP_SECONDS = {
    "conv": 0.56,
    "vit": 0.64,
    "dit": 0.65,
    "pluecker": 0.65,
    **dict.fromkeys(("cross_plane", "self_plane", "aligned", "warm_up", "longer", "tuned"), 0.83),
    "distilled": 0.31,
    "flat": 0.75,
    "monocular": 0.92,
    "two_views": 0.52,
    "all_views": 0.52,
}
"""By row: 0.55 of a step's processor time on one thread, which is what the quick recipe's step takes on two cores."""
BESIDE_SECONDS = 150.0
"""What a run takes besides its steps on two quiet cores, its scores included; reckoned, not measured."""


@dataclass(frozen=True)
class Row:
    """A line of a table: what is trained, the same for every seed but for the seed."""

    name: str
    says: str
    recipe: str
    changes: tuple[str, ...] = ()
    start: str | None = None
    """The row whose run of the same seed is given to --init-from."""
    encoded: bool = False
    """Whether its latents are wanted as well."""
    longer: float = 1.0
    """How many times its recipe's steps it takes, the whole schedule along."""
    paper: float | None = None
    """PSNR in dB in the paper, on 7,000 objects of Objaverse after 100,000 steps."""

    @property
    def path(self) -> Path:
        """The recipe's file."""
        return RECIPES / f"{self.recipe}.yaml"


def scheduled(recipe: Recipe, scale: float) -> list[str]:
    """Return the overrides that make a training `scale` times as long, its schedule along with it."""
    changes = []
    for key in SCHEDULE if scale != 1 else ():
        value = recipe
        for part in key.split("."):
            value = getattr(value, part)
        changes.append(f"{key}={max(int(key.endswith('steps')), round(value * scale))}")
    return changes


def overrides_of(row: Row, seed: int, scale: float = 1.0, extra: Iterable[str] = ()) -> list[str]:
    """Return all that a run of `row` changes in its recipe; `scale` shortens every row alike."""
    recipe = load_recipe(row.path, row.changes)
    return [*row.changes, *scheduled(recipe, row.longer * scale), *extra, f"seed={seed}"]


def scale_of(steps: int | None) -> float:
    """Return the factor on every row's steps that gives the rows of the table `steps`; 1 for None."""
    return 1.0 if steps is None else steps / load_recipe(RECIPES / "base.yaml").vae.training.steps


def minutes_of(row: Row, scale: float = 1.0) -> float:
    """Return what a run of `row` takes on two quiet cores: its steps, and what comes before and after them."""
    steps = load_recipe(row.path, row.changes).vae.training.steps * row.longer * scale
    return (steps * STEP_SECONDS[row.name] + BESIDE_SECONDS) / 60


_SELF_PLANE = Row("self_plane", "+ attention within the planes", "self_plane", paper=21.95)
_ALIGNED = Row("aligned", "the geometry-aligned encoder", "aligned", encoded=True)

PLANS: dict[str, Sequence[Row]] = {
    "ablation": (
        Row("conv", "convolutions alone", "conv", paper=17.46),
        Row("vit", "+ transformer from the latent", "vit", paper=18.92),
        Row("dit", "latent through AdaLN only", "dit", paper=20.61),
        Row("pluecker", "+ Pluecker coordinates", "pluecker", paper=21.29),
        Row("cross_plane", "+ attention across the planes", "cross_plane", paper=21.70),
        _SELF_PLANE,
    ),
    "encoders": (_SELF_PLANE, _ALIGNED),
    "ghost": (
        _SELF_PLANE,
        _ALIGNED,
        Row("warm_up", "warm-up over half of it", "self_plane", ("vae.training.warmup=350",)),
        Row("longer", "three times as long", "self_plane", longer=3),
        Row("distilled", "taught the aligned encoder's latents", "distilled", start="aligned"),
        Row("tuned", "the same, then all of it on pictures", "tuned", start="distilled"),
    ),
    "monocular": (
        Row("flat", "no novel-view discriminator", "monocular", ("vae.losses.adversarial_novel=0",)),
        Row("monocular", "+ novel-view discriminator", "monocular"),
    ),
    "views": (
        Row("two_views", "two stored views of each object", "two_views"),
        Row("all_views", "all of them", "two_views", ("vae.supervision.known_views=null",)),
    ),
}
"""By name; a row that others start from stands before them. Plans share the runs of rows that they share."""
