"""Every error a user can meet.

LN3DError            exit code 1: anything below, and what fits none of them
|-- RecipeError      2: a recipe, an option or an argument is wrong
|-- ArtifactError    3: an artifact is missing, half-written, damaged or does not fit
|-- MeshError        4: a mesh cannot be read, is empty, broken or unsafe
|-- WeightsError     5: pretrained weights are missing or are not the expected ones
`-- DivergedError    6: a training or a sample went wrong beyond repair
"""


class LN3DError(Exception):
    """What went wrong in `message`; what to do about it in `hint`. The CLI prints both, without a traceback."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class RecipeError(LN3DError):
    """A recipe, an option or an argument is wrong, or names what is not built."""

    exit_code = 2


class ArtifactError(LN3DError):
    """An artifact is missing, half-written, damaged, locked, or does not belong to the others."""

    exit_code = 3


class MeshError(LN3DError):
    """A mesh cannot be read, is empty, broken, too large or reaches outside its folder."""

    exit_code = 4


class WeightsError(LN3DError):
    """Pretrained weights are missing or are not the expected ones."""

    exit_code = 5


class DivergedError(LN3DError):
    """A training became non-finite, or no seed gave a usable sample."""

    exit_code = 6
