"""Write the state machines as Amazon States Language: `python -m workflows.render [--check]`.

The result is the same bytes each time, on every machine, whatever AWS configuration it has.
"""

import argparse
import json
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "statemachines"
ENVIRONMENT = {
    # The SDKs read the partition and defaults for every request from here, and would render them.
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REGION": "us-east-1",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    "SAGEMAKER_SUPPRESS_V2_WARNING": "1",
}
FIRST = (
    *("Comment", "Type", "QueryLanguage", "Resource", "Credentials", "Parameters", "Arguments"),
    *("ResultSelector", "ResultPath", "Output", "Retry", "Catch"),
)
LAST = ("Default", "Next", "End")


def main() -> None:
    parser = argparse.ArgumentParser(description="Render the state machines into statemachines/.")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 where a file is not up to date"
    )
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the files are")
    options = parser.parse_args()
    stale = []
    for name, text in render().items():
        path = options.folder / f"{name}.asl.json"
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(path)
        if not options.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if options.check and stale:
        names = ", ".join(str(path) for path in stale)
        sys.exit(f"{names}: not what workflows/ says any more. Run `make render`.")
    for path in stale:
        print(f"wrote {path}")


def render() -> dict[str, str]:
    """Each state machine's definition by its name."""
    os.environ |= ENVIRONMENT
    for variable in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ENDPOINT_URL"):
        os.environ.pop(variable, None)
    logging.disable(logging.WARNING)  # what the SDKs have to say about their own configuration
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the SDKs are old and say so
        from workflows.ci import ci
        from workflows.config import Config
        from workflows.model_build import model_build
        from workflows.model_deploy import model_deploy

        config = Config()
        graphs = {
            "ci": ci(config),
            "model-build": model_build(config),
            "model-deploy": model_deploy(config),
        }
        return {
            name: json.dumps(_ordered(graph.to_dict()), indent=2, ensure_ascii=False) + "\n"
            for name, graph in graphs.items()
        }


def _ordered(definition: dict[str, Any]) -> dict[str, Any]:
    """States in the order in which they are reached, their fields in the order in which one reads them."""
    states = definition.pop("States")
    return {
        **definition,
        "States": {name: _ordered_fields(states[name]) for name in _reached(definition["StartAt"], states)},
    }


def _reached(start: str, states: dict[str, Any]) -> list[str]:
    """Depth first along the way of success; what catches and other choices lead to comes after it."""
    order: list[str] = []
    waiting = [start]
    while waiting:
        name: str | None = waiting.pop(0)
        while name and name not in order:
            order.append(name)
            state = states[name]
            branches = [branch["Next"] for branch in (*state.get("Choices", ()), *state.get("Catch", ()))]
            follow = state.get("Next") or state.get("Default")
            waiting += [branch for branch in branches if branch != follow]
            name = follow
    return order


def _ordered_fields(state: dict[str, Any]) -> dict[str, Any]:
    names = [name for name in FIRST if name in state]
    names += sorted(name for name in state if name not in FIRST and name not in LAST)
    names += [name for name in LAST if name in state]
    return {name: state[name] for name in names}


if __name__ == "__main__":
    main()
