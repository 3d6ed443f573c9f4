"""Reads a definition's JSON once, into the states of `definition`."""

from collections.abc import Callable, Mapping
from typing import Any

from stagegate.local.states.choice import Rule, compile_rule
from stagegate.local.states.definition import (
    Catcher,
    Choice,
    ChoiceRule,
    Fail,
    ItemBatcher,
    ItemReader,
    Map,
    Parallel,
    Pass,
    Program,
    ResultWriter,
    Retrier,
    State,
    Succeed,
    Task,
    Wait,
)
from stagegate.local.states.integrations import parse_resource
from stagegate.local.states.jsonata import is_jsonata
from stagegate.local.states.templates import (
    JSONATA,
    JSONPATH,
    Template,
    compile_expression,
    compile_jsonata_field,
    compile_setting,
    compile_template,
)


def parse_definition(definition: Mapping[str, Any], *, language: str | None = None) -> Program:
    """The program of a definition that `validation.diagnose` has nothing against.

    `language`: the query language of the state machine around it, for a branch or an item processor.
    """
    language = language or definition.get("QueryLanguage", JSONPATH)
    return Program(
        start_at=definition["StartAt"],
        states={name: parse_state(name, fields, language) for name, fields in definition["States"].items()},
        timeout_seconds=definition.get("TimeoutSeconds"),
    )


def parse_state(name: str, fields: Mapping[str, Any], language: str) -> State:
    """`language` is the state machine's, which the state may have changed for itself."""
    own = fields.get("QueryLanguage", language)
    return _PARSERS[fields["Type"]](_common(name, fields, own), fields, language)


def _common(name: str, fields: Mapping[str, Any], language: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": fields["Type"],
        "query_language": language,
        "next": fields.get("Next"),
        "input_path": fields.get("InputPath", "$"),
        "output_path": fields.get("OutputPath", "$"),
        "assign": _template(fields, "Assign", language),
        "output": _template(fields, "Output", language),
    }


def _template(fields: Mapping[str, Any], name: str, language: str, *, within: str = "") -> Template | None:
    if name not in fields:
        return None
    return compile_template(fields[name], language=language, field=f"{within}{name}")


def _working(fields: Mapping[str, Any], language: str) -> dict[str, Any]:
    if fields["Type"] == "Map":
        parameters = _template(fields, "ItemSelector", language) or _template(fields, "Parameters", language)
    else:
        parameters = _template(fields, "Arguments" if language == JSONATA else "Parameters", language)
    catchers = enumerate(fields.get("Catch", ()))
    return {
        "parameters": parameters,
        "result_selector": _template(fields, "ResultSelector", language),
        "result_path": fields.get("ResultPath", "$"),
        "retry": tuple(map(_parse_retrier, fields.get("Retry", ()))),
        "catch": tuple(_parse_catcher(catcher, language, f"Catch[{index}]/") for index, catcher in catchers),
    }


def _parse_retrier(fields: Mapping[str, Any]) -> Retrier:
    return Retrier(
        error_equals=tuple(fields["ErrorEquals"]),
        interval_seconds=fields.get("IntervalSeconds", 1),
        max_attempts=fields.get("MaxAttempts", 3),
        backoff_rate=fields.get("BackoffRate", 2.0),
        max_delay_seconds=fields.get("MaxDelaySeconds"),
        has_full_jitter=fields.get("JitterStrategy", "NONE") == "FULL",
    )


def _parse_catcher(fields: Mapping[str, Any], language: str, within: str) -> Catcher:
    return Catcher(
        error_equals=tuple(fields["ErrorEquals"]),
        next=fields["Next"],
        result_path=fields.get("ResultPath", "$"),
        assign=_template(fields, "Assign", language, within=within),
        output=_template(fields, "Output", language, within=within),
    )


def _parse_pass(common: dict[str, Any], fields: Mapping[str, Any], language: str) -> Pass:
    return Pass(
        **common,
        has_result="Result" in fields,
        result=fields.get("Result"),
        parameters=_template(fields, "Parameters", JSONPATH),
        result_path=fields.get("ResultPath", "$"),
    )


def _parse_choice(common: dict[str, Any], fields: Mapping[str, Any], language: str) -> Choice:
    rules = tuple(
        _parse_choice_rule(rule, common["query_language"], f"Choices[{index}]/")
        for index, rule in enumerate(fields["Choices"])
    )
    return Choice(**common, choices=rules, default=fields.get("Default"))


def _parse_choice_rule(fields: Mapping[str, Any], language: str, within: str) -> ChoiceRule:
    matches: Rule
    if language == JSONPATH:
        matches = compile_rule(fields)
    elif is_jsonata(fields["Condition"]):
        matches = compile_jsonata_field(fields["Condition"], field=f"{within}Condition", expected="boolean")
    else:
        matches = lambda values: fields["Condition"] is True  # noqa: E731
    return ChoiceRule(
        matches=matches,
        next=fields["Next"],
        assign=_template(fields, "Assign", language, within=within),
        output=_template(fields, "Output", language, within=within),
    )


def _parse_wait(common: dict[str, Any], fields: Mapping[str, Any], language: str) -> Wait:
    own = common["query_language"]
    return Wait(
        **common,
        seconds=compile_setting(fields, "Seconds", language=own),
        timestamp=compile_setting(fields, "Timestamp", language=own, expected="string"),
    )


def _parse_succeed(common: dict[str, Any], fields: Mapping[str, Any], language: str) -> Succeed:
    return Succeed(**common)


def _parse_fail(common: dict[str, Any], fields: Mapping[str, Any], language: str) -> Fail:
    own = common["query_language"]
    return Fail(
        **common,
        error=_text_or_expression(fields, "Error", own),
        cause=_text_or_expression(fields, "Cause", own),
    )


def _text_or_expression(fields: Mapping[str, Any], name: str, language: str) -> str | Template | None:
    if (expression := fields.get(f"{name}Path")) is not None:
        return compile_expression(expression, field=f"{name}Path")
    text: str | None = fields.get(name)
    if text is not None and language == JSONATA and is_jsonata(text):
        return compile_jsonata_field(text, field=name, expected="string")
    return text


def _parse_task(common: dict[str, Any], fields: Mapping[str, Any], language: str) -> Task:
    own = common["query_language"]
    return Task(
        **common,
        **_working(fields, own),
        resource=parse_resource(fields["Resource"]),
        timeout_seconds=compile_setting(fields, "TimeoutSeconds", language=own),
        heartbeat_seconds=compile_setting(fields, "HeartbeatSeconds", language=own),
        credentials=_template(fields, "Credentials", own),
    )


def _parse_parallel(common: dict[str, Any], fields: Mapping[str, Any], language: str) -> Parallel:
    return Parallel(
        **common,
        **_working(fields, common["query_language"]),
        branches=tuple(parse_definition(branch, language=language) for branch in fields["Branches"]),
    )


def _parse_map(common: dict[str, Any], fields: Mapping[str, Any], language: str) -> Map:
    own = common["query_language"]
    processor = fields["ItemProcessor"] if "ItemProcessor" in fields else fields["Iterator"]
    config = processor.get("ProcessorConfig", {})
    max_concurrency, count, percentage = (
        compile_setting(fields, name, language=own)
        for name in ("MaxConcurrency", "ToleratedFailureCount", "ToleratedFailurePercentage")
    )
    return Map(
        **common,
        **_working(fields, own),
        items_path=fields.get("ItemsPath", "$"),
        items=_parse_items(fields) if own == JSONATA and "Items" in fields else None,
        item_processor=parse_definition(processor, language=language),
        max_concurrency=max_concurrency,
        tolerated_failure_count=count,
        tolerated_failure_percentage=percentage,
        is_distributed=config.get("Mode") == "DISTRIBUTED",
        execution_type=config.get("ExecutionType", "STANDARD"),
        label=fields.get("Label"),
        item_reader=_parse_item_reader(fields["ItemReader"], own) if "ItemReader" in fields else None,
        item_batcher=_parse_item_batcher(fields["ItemBatcher"], own) if "ItemBatcher" in fields else None,
        result_writer=_parse_result_writer(fields["ResultWriter"], own) if "ResultWriter" in fields else None,
    )


def _parse_items(fields: Mapping[str, Any]) -> Template:
    if is_jsonata(fields["Items"]):
        return compile_jsonata_field(fields["Items"], field="Items", expected="array")
    return compile_template(fields["Items"], language=JSONATA, field="Items")


def _parse_item_reader(fields: Mapping[str, Any], language: str) -> ItemReader:
    config = fields.get("ReaderConfig", {})
    within = "ItemReader/ReaderConfig/"
    return ItemReader(
        resource=fields["Resource"],
        parameters=_service_parameters(fields, language, "ItemReader/"),
        config=config,
        max_items=compile_setting(config, "MaxItems", language=language, within=within),
        items_pointer=_template(config, "ItemsPointer", language, within=within),
    )


def _parse_item_batcher(fields: Mapping[str, Any], language: str) -> ItemBatcher:
    within = "ItemBatcher/"
    return ItemBatcher(
        batch_input=_template(fields, "BatchInput", language, within=within),
        max_items_per_batch=compile_setting(fields, "MaxItemsPerBatch", language=language, within=within),
        max_input_bytes_per_batch=compile_setting(
            fields, "MaxInputBytesPerBatch", language=language, within=within
        ),
    )


def _parse_result_writer(fields: Mapping[str, Any], language: str) -> ResultWriter:
    return ResultWriter(
        resource=fields.get("Resource"),
        parameters=_service_parameters(fields, language, "ResultWriter/"),
        config=fields.get("WriterConfig", {}),
    )


def _service_parameters(fields: Mapping[str, Any], language: str, within: str) -> Template | None:
    return _template(fields, "Arguments" if language == JSONATA else "Parameters", language, within=within)


_PARSERS: dict[str, Callable[[dict[str, Any], Mapping[str, Any], str], State]] = {
    "Pass": _parse_pass,
    "Task": _parse_task,
    "Choice": _parse_choice,
    "Wait": _parse_wait,
    "Succeed": _parse_succeed,
    "Fail": _parse_fail,
    "Parallel": _parse_parallel,
    "Map": _parse_map,
}
