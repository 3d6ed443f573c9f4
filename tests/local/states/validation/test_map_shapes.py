"""What a distributed Map reads, batches and writes."""

from typing import Any

import pytest

from tests.local.states.validation.conftest import DISTRIBUTED, PROCESSOR, READER, of_state, problems

MAP = {"Type": "Map", "ItemProcessor": DISTRIBUTED}


def config(**fields: Any) -> dict[str, Any]:
    return {"Type": "Map", "ItemProcessor": {**PROCESSOR, "ProcessorConfig": fields}}


def reading(**fields: Any) -> dict[str, Any]:
    return {**MAP, "ItemReader": {**READER, "ReaderConfig": fields}}


@pytest.mark.parametrize(
    "state",
    [
        MAP,
        config(Mode="INLINE"),
        {**MAP, "Label": "Nightly", "ToleratedFailureCount": 3},
        reading(InputType="CSV", CSVHeaderLocation="GIVEN", CSVHeaders=["a"], CSVDelimiter="TAB"),
        reading(InputType="JSONL", MaxItemsPath="$.most"),
        reading(InputType="MANIFEST", ManifestType="S3_INVENTORY"),
        {
            **MAP,
            "ItemReader": {"Resource": "arn:aws:states:::s3:listObjectsV2", "Parameters": {"Bucket": "b"}},
        },
        {**MAP, "ItemBatcher": {"MaxItemsPerBatch": 5, "BatchInput": {"x.$": "$.x"}}},
        {**MAP, "ResultWriter": {"Resource": "arn:aws:states:::s3:putObject", "Parameters": {"Bucket": "b"}}},
        {**MAP, "ResultWriter": {"WriterConfig": {"Transformation": "FLATTEN", "OutputType": "JSONL"}}},
    ],
)
def test_a_map_that_is_right(state: dict[str, Any]) -> None:
    assert of_state(state) == []


@pytest.mark.parametrize(
    ("state", "found"),
    [
        (
            config(Mode="DISTRIBUTED"),
            "These fields are required: [ExecutionType] at /ItemProcessor/ProcessorConfig",
        ),
        (
            config(Mode="INLINE", ExecutionType="STANDARD"),
            "Field 'ExecutionType' is not supported at /ItemProcessor/ProcessorConfig",
        ),
        (
            config(Mode="SPREAD"),
            "Value should be one of the following: [INLINE, DISTRIBUTED] at "
            "/ItemProcessor/ProcessorConfig/Mode",
        ),
        (
            config(Mode="DISTRIBUTED", ExecutionType="FAST"),
            "Value should be one of the following: [STANDARD, EXPRESS] at "
            "/ItemProcessor/ProcessorConfig/ExecutionType",
        ),
        ({**MAP, "MaxConcurrency": -1}, "Minimum value is 0 at /MaxConcurrency"),
        ({**MAP, "ToleratedFailureCount": -1}, "Minimum value is 0 at /ToleratedFailureCount"),
        ({**MAP, "ToleratedFailurePercentage": -1}, "Minimum value is 0.0 at /ToleratedFailurePercentage"),
        ({**MAP, "ToleratedFailurePercentage": 101}, "Maximum value is 100.0 at /ToleratedFailurePercentage"),
        (
            {**MAP, "ToleratedFailureCount": 1, "ToleratedFailureCountPath": "$.n"},
            "There should only be one of the following fields: "
            "[ToleratedFailureCount, ToleratedFailureCountPath] at ",
        ),
        (
            {**MAP, "ToleratedFailureCountPath": "$.n[*]"},
            "Value is not a Reference Path at /ToleratedFailureCountPath",
        ),
        (
            {**MAP, "ItemReader": {**READER, "Resource": "arn:aws:states:::dynamodb:scan"}},
            "The field 'Resource' does not match any of the allowed values. Examples: "
            "[arn:<partition>:states:::s3:getObject, arn:<partition>:states:::s3:listObjectsV2] at "
            "/ItemReader/Resource",
        ),
        ({**MAP, "ItemReader": {}}, "These fields are required: [Resource] at /ItemReader"),
        ({**MAP, "ItemReader": "s3"}, "Expected value of type [OBJECT] at /ItemReader"),
        (
            {**MAP, "ItemReader": {**READER, "Arguments": {}}},
            "The QueryLanguage is set to 'JSONPath', but field 'Arguments' is only supported for the "
            "'JSONata' QueryLanguage at /ItemReader",
        ),
        (
            reading(InputType="XML"),
            "Value should be one of the following: [CSV, JSON, JSONL, PARQUET, MANIFEST] at "
            "/ItemReader/ReaderConfig/InputType",
        ),
        (
            reading(InputType="CSV"),
            "These fields are required: [CSVHeaderLocation] at /ItemReader/ReaderConfig",
        ),
        (
            reading(InputType="JSON", CSVHeaderLocation="FIRST_ROW"),
            "Field 'CSVHeaderLocation' is not supported at /ItemReader/ReaderConfig",
        ),
        (
            reading(InputType="CSV", CSVHeaderLocation="GIVEN"),
            "These fields are required: [CSVHeaders] at /ItemReader/ReaderConfig",
        ),
        (
            reading(InputType="JSON", MaxItems=100_000_001),
            "Maximum value is 100000000 at /ItemReader/ReaderConfig/MaxItems",
        ),
        (
            reading(InputType="JSON", MaxItems=1, MaxItemsPath="$.n"),
            "There should only be one of the following fields: [MaxItems, MaxItemsPath] at "
            "/ItemReader/ReaderConfig",
        ),
        (
            {**MAP, "ItemBatcher": {"MaxItemsPerBatch": -1}},
            "Minimum value is 0 at /ItemBatcher/MaxItemsPerBatch",
        ),
        (
            {**MAP, "ItemBatcher": {"MaxInputBytesPerBatch": 262_145}},
            "Maximum value is 262144 at /ItemBatcher/MaxInputBytesPerBatch",
        ),
        ({**MAP, "ItemBatcher": {"Size": 1}}, "Field 'Size' is not supported at /ItemBatcher"),
        ({**MAP, "ResultWriter": {}}, "These fields are required: [Resource, Parameters] at /ResultWriter"),
        (
            {**MAP, "ResultWriter": {"Resource": "arn:aws:states:::s3:putObject"}},
            "These fields are required: [Parameters] at /ResultWriter",
        ),
        (
            {**MAP, "ResultWriter": {"Resource": "arn:aws:states:::s3:getObject", "Parameters": {}}},
            "The field 'Resource' does not match any of the allowed values. Examples: "
            "[arn:<partition>:states:::s3:putObject] at /ResultWriter/Resource",
        ),
        (
            {**MAP, "ResultWriter": {"WriterConfig": {"Transformation": "NONE"}}},
            "These fields are required: [OutputType] at /ResultWriter/WriterConfig",
        ),
        (
            {**MAP, "Label": "x" * 41},
            f"INVALID_LABEL_NAME: Invalid Label name: {'x' * 41} exceeds the 40-character limit allowed by "
            "the service at /Label",
        ),
        ({**MAP, "Label": "a label"}, "INVALID_LABEL_NAME: Invalid Label name: a label at /Label"),
    ],
)
def test_a_map_that_is_wrong(state: dict[str, Any], found: str) -> None:
    assert of_state(state) == [found]


def test_a_label_is_used_once() -> None:
    inner = {"StartAt": "Two", "States": {"Two": {**MAP, "Label": "same", "End": True}}}
    outer = {"Type": "Map", "Label": "same", "ItemProcessor": inner, "End": True}

    assert problems({"StartAt": "One", "States": {"One": outer}}) == [
        "DUPLICATE_LABEL_NAME: Duplicate Label name: same at /States/One/ItemProcessor/States/Two/Label"
    ]
