"""Our own services: for each API the classes that answer its operations, the first that has it.

What they do not answer, moto does, where it stands behind the API (`moto_services.MOTO_BEHIND`).
"""

from collections.abc import Mapping

from stagegate.local.alarms import Alarms
from stagegate.local.builds import CodeBuild
from stagegate.local.codecommit import CodeCommit
from stagegate.local.codecommit_contents import Contents
from stagegate.local.event_archives import EventArchives
from stagegate.local.event_buses import EventBuses
from stagegate.local.events import EventBridge
from stagegate.local.function_sources import EventSources
from stagegate.local.function_urls import FunctionUrls
from stagegate.local.functions import Functions
from stagegate.local.logs import Logs
from stagegate.local.mail import SESMail, SESv2Mail, SNSMail
from stagegate.local.metrics import Metrics as CloudWatchMetrics
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
from stagegate.local.scaling import ApplicationAutoScaling
from stagegate.local.schedule_groups import ScheduleGroups
from stagegate.local.schedules import Schedules
from stagegate.local.service import Service
from stagegate.local.stacks.service import CloudFormation
from stagegate.local.states.service import StepFunctions
from stagegate.local.sts import SecurityTokens

SERVICES: Mapping[str, tuple[type[Service], ...]] = {
    "application-autoscaling": (ApplicationAutoScaling,),
    "cloudformation": (CloudFormation,),
    "cloudwatch": (Alarms, CloudWatchMetrics),
    "codebuild": (CodeBuild,),
    "events": (EventBridge, EventBuses, EventArchives),
    "codecommit": (CodeCommit, Contents),  # it announces when it starts, and the rules should be there
    "lambda": (Functions, FunctionUrls, EventSources),
    "logs": (Logs,),
    "sagemaker": (Jobs, Registry, Models, Endpoints, Lineage, Experiments, Search, TuningJobs, TransformJobs),
    "sagemaker-metrics": (Metrics,),
    "sagemaker-runtime": (Invocations, AsyncInvocations),
    "scheduler": (Schedules, ScheduleGroups),
    "ses": (SESMail,),
    "sesv2": (SESv2Mail,),
    "sns": (SNSMail,),
    "stepfunctions": (StepFunctions,),
    "sts": (SecurityTokens,),
}
