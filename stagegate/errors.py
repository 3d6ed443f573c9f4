"""The errors that a user can do something about; the command line prints them without a traceback.

StagegateError            exit status 1
├── ConfigurationError    stagegate.toml, an environment variable or a flag is wrong
├── Declined              somebody said no, or nobody could be asked
├── NotReachable          nothing answers where the services should be
├── NotSignedIn           there are no credentials, or AWS does not take them
├── SlowedDown            AWS is asked too often, or has no time: later it will answer
├── NotFound              what was named does not exist
├── NotInterrupted        a training job that cannot be interrupted
└── ReleaseFailed         a run, a deployment or the demo ended in failure
"""


class StagegateError(Exception):
    """Says what was given, what was expected and what to do."""


class ConfigurationError(StagegateError):
    """A setting is wrong."""


class Declined(StagegateError):
    """Nothing was done, because nobody agreed to it."""


class NotReachable(StagegateError):
    """No AWS, or no local runtime, answers."""


class NotSignedIn(StagegateError):
    """Says how to get credentials that count."""


class SlowedDown(StagegateError):
    """AWS answers that it is asked too often, or fails on its side; it was asked again, in vain."""


class NotFound(StagegateError):
    """There is no such run, approval, model or endpoint."""


class NotInterrupted(StagegateError):
    """The training job does not exist, does not run, or is not on spot capacity."""


class ReleaseFailed(StagegateError):
    """A state machine or a stack ended in failure."""
