"""Which dataset a run is of, where its input names none: the newest below datasets/."""

from stepfunctions.steps import ChoiceRule, Pass
from stepfunctions.steps.states import State

from workflows.config import Config
from workflows.language import call_aws, caught_in, chosen, failed, jsonata, merged

FOLDER = "datasets/"
NEWEST = f"""(
  $found := $states.result.Contents[Key != '{FOLDER}'];
  $newest := $sort(
    $append($states.input.Datasets.Newest, $found),
    function($one, $other) {{ $toMillis($one.LastModified) > $toMillis($other.LastModified) }}
  )[-1];
  $merge([
    $exists($newest) ? {{'Newest': {{'Key': $newest.Key, 'LastModified': $newest.LastModified}}}} : {{}},
    $states.result.IsTruncated ? {{'Next': $states.result.NextContinuationToken}} : {{}}
  ])
)"""


def find_dataset(config: Config, *, then: State) -> State:
    """Go on to `then` with `$.Run.DatasetUri`: the one that is given, or the newest in the data bucket."""
    unread = failed(
        "DatasetsUnreadable",
        error="DatasetsUnreadable",
        cause=f"The datasets below {FOLDER} could not be listed: {{}}: {{}}",
        paths=("$.Failure.Error", "$.Failure.Cause"),
    )
    none = failed(
        "NoDataset",
        error="NoDataset",
        cause=f"The input names no DatasetUri, and none is below s3://{config.data_bucket}/{FOLDER} yet.",
    )
    listed = {"Bucket": config.data_bucket, "Prefix": FOLDER}
    first = call_aws("ListDatasets", "aws-sdk:s3:listObjectsV2", listed, output=merged("Datasets", NEWEST))
    more = call_aws(
        "ListMoreDatasets",
        "aws-sdk:s3:listObjectsV2",
        listed | {"ContinuationToken": "{% $states.input.Datasets.Next %}"},
        output=merged("Datasets", NEWEST),
    )
    uri = f"'s3://{config.data_bucket}/' & $states.input.Datasets.Newest.Key"
    given = merged("Run", f"$merge([$states.input.Run, {{'DatasetUri': {uri}}}])")
    take = jsonata(Pass("TakeNewest"), output=given)
    take.next(then)
    has_more = chosen(
        "AreThereMore",
        [
            (ChoiceRule.IsPresent("$.Datasets.Next", True), more),
            (ChoiceRule.IsPresent("$.Datasets.Newest", True), take),
        ],
        default=none,
    )
    for step in (first, more):
        step.add_catch(caught_in(unread))
        step.next(has_more)
    return chosen("IsDatasetGiven", [(ChoiceRule.IsPresent("$.Run.DatasetUri", True), then)], default=first)
