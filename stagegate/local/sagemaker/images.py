"""Images are names here; but the role that a container runs by must be allowed to pull its image."""

import re
from typing import Any

from stagegate.local.service import Runtime

_IN_ECR = re.compile(r"(\d{12})\.dkr\.ecr\.([\w-]+)\.amazonaws\.com(?:\.cn)?/([^:@]+).*")
_PULLING = ("ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage")


async def authorize_pull(runtime: Runtime, image: str | None) -> None:
    """Raise AWSError where the role by which `runtime` calls may not."""
    if (match := _IN_ECR.fullmatch(image or "")) is None:
        return
    account, region, repository = match.groups()
    await runtime.authorize("ecr:GetAuthorizationToken", "*")
    for action in _PULLING:
        await runtime.authorize(action, f"arn:aws:ecr:{region}:{account}:repository/{repository}")


def image_of(job: dict[str, Any]) -> str | None:
    """That of a training or a processing job."""
    training, processing = job.get("AlgorithmSpecification", {}), job.get("AppSpecification", {})
    image: str | None = training.get("TrainingImage") or processing.get("ImageUri")
    return image
