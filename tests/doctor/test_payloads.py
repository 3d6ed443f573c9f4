"""Answers that can be more than a payload may be."""

from typing import Any

import pytest

from tests.doctor.examples import COUNTED, JOB, call, machine, named, task, wrong


@pytest.mark.parametrize(
    ("api", "fields"),
    [
        ("aws-sdk:s3:getObject", {}),
        ("aws-sdk:s3:listObjectsV2", {"ResultPath": "$.Objects"}),
        ("aws-sdk:dynamodb:scan", {}),
        ("aws-sdk:s3:getObject", {"QueryLanguage": "JSONata", "Output": "{% $states.result %}"}),
        (
            "aws-sdk:s3:getObject",
            {"QueryLanguage": "JSONata", "Output": "{% $merge([$states.input, {'File': $states.result}]) %}"},
        ),
    ],
)
def test_an_unbounded_answer_that_goes_on_whole_is_found(api: str, fields: dict[str, Any]) -> None:
    assert named("payload-too-large", machine(call(api, **fields)))


@pytest.mark.parametrize(
    ("api", "fields"),
    [
        ("aws-sdk:s3:getObject", {"ResultSelector": {"Size.$": "$.ContentLength"}}),
        ("aws-sdk:s3:getObject", {"ResultPath": None}),
        ("aws-sdk:s3:headObject", {}),
        ("aws-sdk:s3:listObjectsV2", {"Parameters": {"Bucket": "b", "MaxKeys": 10}}),
        ("lambda:invoke", {}),
        ("aws-sdk:s3:getObject", {"QueryLanguage": "JSONata", "Output": "{% $states.result.ETag %}"}),
    ],
)
def test_an_answer_with_a_bound_is_none(api: str, fields: dict[str, Any]) -> None:
    assert named("payload-too-large", machine(call(api, **fields))) == []


def test_the_results_of_a_map_are_found_where_they_add_up() -> None:
    inner = machine(task(JOB, Parameters={"TrainingJobName.$": COUNTED}))
    distributed = inner | {"ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}}
    selected = machine(task(JOB, ResultSelector={"Job.$": "$.TrainingJobArn"}))

    def found(processor: dict[str, Any], **fields: Any) -> list[str]:
        first = {"Type": "Map", "ItemProcessor": processor, "End": True} | fields
        return wrong("payload-too-large", machine(first))

    assert found(inner) == [
        "the whole answer of sagemaker:createTrainingJob.sync in 'First' goes on for each item"
    ]
    assert found(distributed) == ["the results of all items of a distributed Map go on in the output"]
    assert found(selected) == found(inner, ResultPath=None) == found(distributed, ResultWriter={}) == []
