"""Step caching: a job that has run with the same code, data, parameters and image is not run again.

What a step depends on is hashed by content: ETags of what it reads in S3, its parameters, its image. Under
that key a DynamoDB table keeps the outputs of the job that completed, until they expire. A lookup that fails
costs the job, never the run. An ETag that changes while the content stays the same (other parts of an
upload, another KMS key) is a miss.
"""

from stepfunctions.steps import Chain, ChoiceRule, Pass, Task
from stepfunctions.steps.states import State

from workflows.config import Config
from workflows.language import (
    Expression,
    call_aws,
    caught,
    caught_in,
    chosen,
    failed,
    jsonata,
    merged,
    with_fields,
)

GIVEN = "$states.input"


def read_hash(name: str, *, uri: str, member: str, what: str) -> Task:
    """The ETag of the object at `uri` (JSONata) comes to `$.Hashes.<member>`."""
    path = f"$substringAfter({uri}, 's3://')"
    step = call_aws(
        name,
        "aws-sdk:s3:headObject",
        {
            "Bucket": f"{{% $substringBefore({path}, '/') %}}",
            "Key": f"{{% $substringAfter({path}, '/') %}}",
        },
        output=merged("Hashes", f"$merge([{GIVEN}.Hashes, {{'{member}': $states.result.ETag}}])"),
    )
    unreadable = failed(
        f"{member}Unreadable",
        error=f"{member}Unreadable",
        cause=f"{what} cannot be read: {{}}: {{}}",
        paths=("$.Failure.Error", "$.Failure.Cause"),
    )
    step.add_catch(caught_in(unreadable))
    return step


def cached(
    job: Chain,
    *,
    step: str,
    result: str,
    depends_on: list[str],
    outputs: dict[str, Expression],
    then: State,
    config: Config,
) -> Chain:
    """`job` with a lookup before it and its outputs kept after it, at `$.<result>` in either case.

    `depends_on` are JSONata expressions: with the step's name they are the key. `outputs` are taken when the
    job has completed. What is reused goes on with `then`, and so does the job.
    """
    texts = ", ".join((f"'{step}'", *depends_on))
    missed = f"{{'Key': $hash($string([{texts}]), 'SHA-256'), 'Found': false}}"
    key = jsonata(Pass(f"{step}Key"), output=merged("Cache", missed))
    find = call_aws(
        f"Find{step}",
        "dynamodb:getItem",
        {
            "TableName": config.step_cache,
            "Key": {"Key": {"S": f"{{% {GIVEN}.Cache.Key %}}"}},
            "ConsistentRead": True,
        },
        output=merged("Cache", f"({_FOUND}; $merge([{GIVEN}.Cache, {{'Found': $found{_OUTPUTS}}}]))"),
    )

    reuse = Pass(f"Reuse{step}", input_path="$.Cache.Outputs", result_path=f"$.{result}")
    reuse.next(then)
    is_kept = chosen(f"Is{step}Kept", [(ChoiceRule.BooleanEquals("$.Cache.Found", True), reuse)])
    find.add_catch(with_fields(caught(is_kept, path=None), output=f"{{% {GIVEN} %}}"))

    taken = Pass(f"{step}Outputs", parameters=outputs, result_path=f"$.{result}")
    keep = call_aws(
        f"Keep{step}",
        "dynamodb:putItem",
        {
            "TableName": config.step_cache,
            "Item": {
                "Key": {"S": f"{{% {GIVEN}.Cache.Key %}}"},
                "Step": {"S": step},
                "RunId": {"S": f"{{% {GIVEN}.Run.RunId %}}"},
                "Outputs": {"S": f"{{% $string({GIVEN}.{result}) %}}"},
                "ExpiresAt": {
                    "N": f"{{% $string($floor($millis() / 1000) + {GIVEN}.Run.CacheDays * 86400) %}}"
                },
            },
        },
        output=f"{{% {GIVEN} %}}",
    )
    keep.add_catch(with_fields(caught(then, path=None), output=f"{{% {GIVEN} %}}"))
    return Chain([key, find, is_kept, job, taken, keep, then])


def sorted_pairs(path: str) -> str:
    """The members of a JSON object as texts, in an order that is always the same; as JSONata."""
    members = f"{GIVEN}.{path}"
    return f"[$map($sort($keys({members})), function($name) {{ $name & '=' & $lookup({members}, $name) }})]"


_FOUND = (
    "$item := $states.result.Item; "
    f"$found := {GIVEN}.Run.UseCache and $exists($item) and $number($item.ExpiresAt.N) > $millis() / 1000"
)
_OUTPUTS = ", 'Outputs': $found ? $parse($item.Outputs.S) : {}"
