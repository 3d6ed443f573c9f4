"""Which fields a state of each type has, in which query language, and what their values must be.

https://docs.aws.amazon.com/step-functions/latest/dg/statemachine-structure.html
"""

from stagegate.local.states.validation.map_shapes import ITEM_BATCHER, ITEM_READER, RESULT_WRITER
from stagegate.local.states.validation.shapes import (
    JSONATA,
    JSONPATH,
    Field,
    Shape,
    both,
    in_jsonata,
    in_jsonpath,
    of_shape,
)
from stagegate.local.states.validation.values import (
    anything,
    array_of,
    boolean,
    integer,
    items,
    number,
    object_payload,
    one_of,
    path,
    path_or_function,
    payload,
    reference_path,
    reference_path_anywhere,
    result_path,
    string,
    text,
    timestamp,
)
from stagegate.local.states.validation.variables import assignment

_MOST_SECONDS = 99_999_999
_LANGUAGE = both(one_of(JSONPATH, JSONATA))
_COMMENT = both(string)

_EVERY = {"Type": both(anything), "Comment": _COMMENT, "QueryLanguage": _LANGUAGE}
_DATA = {"InputPath": in_jsonpath(path), "OutputPath": in_jsonpath(path)}
_STEER = {"Next": both(string), "End": both(boolean)}
_ONE_NEXT = ("Next", "End")

RETRIER = Shape(
    fields={
        "ErrorEquals": both(array_of(string)),
        # AWS takes 0 here, other than its documentation.
        "IntervalSeconds": both(integer(0, _MOST_SECONDS)),
        "MaxAttempts": both(integer(0, _MOST_SECONDS)),
        "BackoffRate": both(number(1.0)),
        "MaxDelaySeconds": both(integer(1, 31_622_400)),
        "JitterStrategy": both(one_of("NONE", "FULL")),
        "Comment": _COMMENT,
    },
    required=("ErrorEquals",),
)
CATCHER = Shape(
    fields={
        "ErrorEquals": both(array_of(string)),
        "Next": both(string),
        "ResultPath": in_jsonpath(result_path),
        "Output": in_jsonata(payload, "errorOutput"),
        "Assign": both(assignment, "errorOutput"),
        "Comment": _COMMENT,
    },
    required=("ErrorEquals", "Next"),
)

_WORK = {
    **_EVERY,
    **_DATA,
    **_STEER,
    "ResultPath": in_jsonpath(result_path),
    "ResultSelector": in_jsonpath(object_payload),
    "Output": in_jsonata(payload, "result"),
    "Assign": both(assignment, "result"),
    "Retry": both(array_of(of_shape(RETRIER), may_be_empty=True)),
    "Catch": both(array_of(of_shape(CATCHER), may_be_empty=True)),
}


def _seconds(least: int) -> Field:
    return both(integer(least, _MOST_SECONDS, may_be_expression=True))


_PROCESSORS = ("ItemProcessor", "Iterator")
_TIMES = ("SecondsPath", "Seconds", "TimestampPath", "Timestamp")

STATES = {
    "Task": Shape(
        fields={
            **_WORK,
            "Resource": both(string),
            "Parameters": in_jsonpath(payload),
            "Arguments": in_jsonata(payload),
            "Credentials": both(object_payload),
            "TimeoutSeconds": _seconds(1),
            "TimeoutSecondsPath": in_jsonpath(reference_path),
            "HeartbeatSeconds": _seconds(1),
            "HeartbeatSecondsPath": in_jsonpath(reference_path),
        },
        required=("Resource",),
        exactly_one=(_ONE_NEXT,),
        at_most_one=(
            ("TimeoutSeconds", "TimeoutSecondsPath"),
            ("HeartbeatSeconds", "HeartbeatSecondsPath"),
        ),
    ),
    "Wait": Shape(
        fields={
            **_EVERY,
            **_DATA,
            **_STEER,
            "Seconds": _seconds(0),
            "SecondsPath": in_jsonpath(reference_path),
            "Timestamp": both(timestamp),
            "TimestampPath": in_jsonpath(reference_path),
            "Output": in_jsonata(payload),
            "Assign": both(assignment),
        },
        exactly_one=(_ONE_NEXT, _TIMES),
    ),
    "Pass": Shape(
        fields={
            **_EVERY,
            **_DATA,
            **_STEER,
            "Result": in_jsonpath(anything),
            "ResultPath": in_jsonpath(result_path),
            "Parameters": in_jsonpath(payload),
            "Output": in_jsonata(payload),
            "Assign": both(assignment),
        },
        exactly_one=(_ONE_NEXT,),
    ),
    "Succeed": Shape(fields={**_EVERY, **_DATA, "Output": in_jsonata(payload)}),
    "Fail": Shape(
        fields={
            **_EVERY,
            "Error": both(text),
            "ErrorPath": in_jsonpath(path_or_function),
            "Cause": both(text),
            "CausePath": in_jsonpath(path_or_function),
        },
        at_most_one=(("Error", "ErrorPath"), ("Cause", "CausePath")),
    ),
    "Choice": Shape(
        fields={
            **_EVERY,
            **_DATA,
            "Choices": both(array_of(anything)),
            "Default": both(string),
            "Output": in_jsonata(payload),
            "Assign": both(assignment),
        },
        required=("Choices",),
    ),
    "Parallel": Shape(
        fields={
            **_WORK,
            "Parameters": in_jsonpath(payload),
            "Arguments": in_jsonata(payload),
            "Branches": both(array_of(anything)),
        },
        required=("Branches",),
        exactly_one=(_ONE_NEXT,),
    ),
    "Map": Shape(
        fields={
            **_WORK,
            "Parameters": in_jsonpath(payload),
            "ItemProcessor": both(anything),
            "Iterator": both(anything),
            "ItemsPath": in_jsonpath(reference_path_anywhere),
            "Items": in_jsonata(items),
            "ItemSelector": both(payload),
            "ItemReader": both(of_shape(ITEM_READER)),
            "ItemBatcher": both(of_shape(ITEM_BATCHER)),
            "ResultWriter": both(of_shape(RESULT_WRITER)),
            "MaxConcurrency": both(integer(0, may_be_expression=True)),
            "MaxConcurrencyPath": in_jsonpath(reference_path),
            "ToleratedFailurePercentage": both(number(0.0, 100.0, may_be_expression=True)),
            "ToleratedFailurePercentagePath": in_jsonpath(reference_path),
            "ToleratedFailureCount": both(integer(0, may_be_expression=True)),
            "ToleratedFailureCountPath": in_jsonpath(reference_path),
            "Label": both(string),
        },
        exactly_one=(_ONE_NEXT, _PROCESSORS),
        at_most_one=(
            ("MaxConcurrency", "MaxConcurrencyPath"),
            ("ToleratedFailurePercentage", "ToleratedFailurePercentagePath"),
            ("ToleratedFailureCount", "ToleratedFailureCountPath"),
        ),
    ),
}

_SCOPE = {"Comment": _COMMENT, "StartAt": both(string), "States": both(anything)}
_STARTS = ("States", "StartAt")

MACHINE = Shape(
    fields={
        **_SCOPE,
        "QueryLanguage": _LANGUAGE,
        "Version": both(one_of("1.0")),
        "TimeoutSeconds": both(integer(0, _MOST_SECONDS)),
    },
    required=_STARTS,
)
BRANCH = Shape(fields=_SCOPE, required=_STARTS)
PROCESSOR = Shape(fields={**_SCOPE, "ProcessorConfig": both(anything)}, required=_STARTS)
