"""The errors that a user can do something about; the command line prints them without a traceback.

StagegateError            exit status 1
├── ConfigurationError    stagegate.toml, an environment variable or a flag is wrong
├── NotReachable          nothing answers where the services should be
├── NotFound              what was named does not exist
├── NotInterrupted        a training job that cannot be interrupted
└── ReleaseFailed         a run, a deployment or the demo ended in failure
"""


class StagegateError(Exception):
    """Says what was given, what was expected and what to do."""


class ConfigurationError(StagegateError):
    """A setting is wrong."""


class NotReachable(StagegateError):
    """No AWS, or no local runtime, answers."""


class NotFound(StagegateError):
    """There is no such run, approval, model or endpoint."""


class NotInterrupted(StagegateError):
    """The training job does not exist, does not run, or is not on spot capacity."""


class ReleaseFailed(StagegateError):
    """A state machine or a stack ended in failure."""
