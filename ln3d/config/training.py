"""Recipe section shared by both trainings."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ln3d.config.section import Section

INDIFFERENT = frozenset(
    {
        "accumulate",
        "workers",
        "checkpoint_every",
        "log_every",
        "validate_every",
        "sheet_every",
        "trackers",
        "gradient_checkpointing",
    }
)
"""Values that say how a training is run and watched: what it learns is the same, up to rounding, for any of them."""

Precision = Literal["fp32", "bf16"]


class TrainingConfig(Section):
    """How long, how fast, how often saved."""

    steps: int = Field(1000, ge=1)
    """Optimiser steps."""
    batch: int = Field(8, ge=1)
    """Objects per step, over all processes."""
    accumulate: int = Field(1, ge=1)
    """Passes per step, each of batch / accumulate objects: less memory for the same step."""
    optimiser: Literal["adamw", "muon"] = "adamw"
    """What updates the weights; muon orthogonalises updates of matrices and convolutions, and AdamW has the rest."""
    muon_factor: float = Field(1.0, gt=0)
    """Factor on the learning rate of what muon updates; with 1 these updates are about as large as AdamW's."""
    learning_rate: float = Field(1e-3, gt=0)
    """Peak learning rate."""
    learning_rates: dict[str, Annotated[float, Field(ge=0)]] = {}
    """Factors on the learning rate of sub-networks by name, such as {encoder: 0.5}; the others have 1."""
    final_learning_rate: float = Field(0.01, ge=0, le=1)
    """Where the cosine schedule ends, relative to the peak; 1 keeps it constant after the warm-up."""
    warmup: int = Field(100, ge=0)
    """Steps of linear warm-up."""
    weight_decay: float = Field(0.01, ge=0)
    """Decay, apart from the gradient, of all that has two or more axes: no biases, norms and vectors."""
    weight_decays: dict[str, Annotated[float, Field(ge=0)]] = {}
    """The decay of sub-networks by name, such as {encoder: 0.001}, instead of weight_decay."""
    betas: tuple[float, float] = (0.9, 0.99)
    """AdamW's moment decays."""
    gradient_clip: float = Field(1.0, gt=0)
    """Largest gradient norm."""
    ema: float = Field(0.999, ge=0, lt=1)
    """Decay of the weight average that is published."""
    precision: Precision = "bf16"
    """Autocast of the networks; the renderer's geometry stays fp32. Processors and GPUs without instructions for bf16
    use fp32 in its stead."""
    workers: int = Field(0, ge=0)
    """Loader processes; the data is the same for any number."""
    checkpoint_every: int = Field(500, ge=1)
    """Steps between sealed checkpoints."""
    log_every: int = Field(10, ge=1)
    """Steps between lines of metrics.jsonl."""
    validate_every: int = Field(1000, ge=1)
    """Steps between validations."""
    sheet_every: int = Field(0, ge=0)
    """Steps between contact sheets of the training so far; 0 draws none."""
    trackers: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Programs that are told what metrics.jsonl is told; each must be installed."""
    gradient_checkpointing: bool = False
    """Trade time for memory: compute transformer blocks, and what stage 1 renders, again in the backward pass."""

    @model_validator(mode="after")
    def _passes_are_equal(self) -> Self:
        if self.batch % self.accumulate:
            raise ValueError(f"a batch of {self.batch} cannot be divided evenly among {self.accumulate} passes")
        return self
