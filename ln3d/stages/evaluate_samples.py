"""What of a model, or of another system, is compared with real objects by metrics of pictures and of shapes."""

from typing import Any

from ln3d.artifacts.opening import Artifact
from ln3d.backbones.images import ImageBackbone, plain_name
from ln3d.errors import ArtifactError
from ln3d.generation.model import Generator
from ln3d.runtime import choose_device
from ln3d.stages import image_scores, shape_scores
from ln3d.stages.contestants import Contestant, Samples
from ln3d.stages.evaluation_question import Question
from ln3d.stages.evaluation_reports import Sheet, set_sheet
from ln3d.stages.evaluation_request import Request
from ln3d.stages.reference import RealObjects, Reference
from ln3d.stages.submissions import MeshFolder, PictureFolder
from ln3d.stages.yardsticks import Reconstructions, TrainingObjects, training_shapes
from ln3d.talk import Talk


def compare(metric: str, request: Request, reference: RealObjects, talk: Talk) -> dict[str, Any]:
    """Return the report of a metric of pictures or shapes, with `--dry-run` the plan; raises as `evaluate.run`."""
    evaluation = reference.recipe.evaluation
    backbone: ImageBackbone | None = None
    wanted = evaluation.backbone if metric in ("fid", "kid") else evaluation.clip
    with request.ranks.together():
        if metric in image_scores.METRICS and metric != "clip-t":  # which compares pictures with words
            reference.check_network(plain_name(wanted))
        if metric in image_scores.METRICS and not request.dry_run:
            backbone = request.networks.image(wanted, str(choose_device(request.device)))
        contestant, inputs = _contestant(request, reference)
    title = image_scores.titled(metric, backbone.name if backbone else plain_name(wanted))

    def measure() -> tuple[dict[str, Any], Sheet]:
        if backbone is None:
            device = choose_device(request.device)
            report, compared = shape_scores.shape_scores(
                metric, contestant, reference, request.category, talk, ranks=request.ranks, device=device
            )
        else:
            report, compared = image_scores.image_scores(
                metric, contestant, reference, request.category, backbone, talk, request.ranks
            )
        return report, set_sheet(contestant, compared)

    mark = [contestant.identity(), backbone and [backbone.name, backbone.sha256]]
    count = len(contestant.labels)
    return Question(title, request, reference, contestant.name, inputs, mark, count).answer(measure, talk)


def _contestant(request: Request, reference: RealObjects) -> tuple[Contestant, dict[str, Artifact]]:
    inputs = {reference.role: reference.artifact}
    if request.meshes is not None:
        return MeshFolder(request.meshes, reference, reference.store, request.count), inputs
    if request.renders is not None:
        return PictureFolder(request.renders, request.count), inputs
    count = request.count or reference.recipe.evaluation.samples
    if request.of == "training-objects":
        shards = _with_views(reference, request.of)
        return TrainingObjects(shards, training_shapes(shards, request.category, count)), inputs
    generator = Generator.load(request.model, choose_device(request.device), sampling=request.of == "samples")
    vae, name = generator.artifacts["vae"], request.model_name(reference)
    trained = reference.trained(vae)
    if not trained and request.reference is None:
        raise ArtifactError(
            f"the VAE {vae.path} was not trained on the objects of {reference.artifact.path}",
            f"compare with them all the same: --reference {reference.artifact.path.parent}",
        )
    if request.of == "reconstructions":
        shards = _with_views(reference, request.of)
        shapes = training_shapes(shards, request.category, count)
        return Reconstructions(f"{name} reconstructions", generator, shards, shapes), {**inputs, "vae": vae}
    prompts = reference.prompts(request.category, count) if generator.conditional else [""] * count
    return Samples(name, generator, prompts, reference.store, trained), {**inputs, **generator.artifacts}


def _with_views(reference: RealObjects, what: str) -> Reference:
    if not isinstance(reference, Reference):
        raise ArtifactError(
            f"{what} need the views of real objects, and {reference.artifact.path} has features and surfaces alone",
            "name a workspace with shards: --model DIR",
        )
    return reference
