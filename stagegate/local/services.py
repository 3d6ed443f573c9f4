"""Our own services: for each API the classes that answer its operations, the first that has it.

What they do not answer, moto does, where it stands behind the API (`moto_services.MOTO_BEHIND`).
"""

from collections.abc import Mapping

from stagegate.local.alarms import Alarms
from stagegate.local.builds import CodeBuild
from stagegate.local.events import EventBridge
from stagegate.local.function_urls import FunctionUrls
from stagegate.local.functions import Functions
from stagegate.local.logs import Logs
from stagegate.local.mail import SESMail, SESv2Mail, SNSMail
from stagegate.local.sagemaker.async_inference import AsyncInvocations
from stagegate.local.sagemaker.endpoints import Endpoints
from stagegate.local.sagemaker.experiment_metrics import Metrics
from stagegate.local.sagemaker.experiments import Experiments
from stagegate.local.sagemaker.jobs import Jobs
from stagegate.local.sagemaker.lineage import Lineage
from stagegate.local.sagemaker.models import Models
from stagegate.local.sagemaker.registry import Registry
from stagegate.local.sagemaker.runtime import Invocations
from stagegate.local.sagemaker.search import Search
from stagegate.local.sagemaker.transform import TransformJobs
from stagegate.local.sagemaker.tuning import TuningJobs
from stagegate.local.service import Service
from stagegate.local.stacks.service import CloudFormation
from stagegate.local.states.service import StepFunctions

SERVICES: Mapping[str, tuple[type[Service], ...]] = {
    "cloudformation": (CloudFormation,),
    "cloudwatch": (Alarms,),
    "codebuild": (CodeBuild,),
    "events": (EventBridge,),
    "lambda": (Functions, FunctionUrls),
    "logs": (Logs,),
    "sagemaker": (Jobs, Registry, Models, Endpoints, Lineage, Experiments, Search, TuningJobs, TransformJobs),
    "sagemaker-metrics": (Metrics,),
    "sagemaker-runtime": (Invocations, AsyncInvocations),
    "ses": (SESMail,),
    "sesv2": (SESv2Mail,),
    "sns": (SNSMail,),
    "stepfunctions": (StepFunctions,),
}
