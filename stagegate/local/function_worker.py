"""The process behind a Lambda function: imports the handler once, then answers one event after the other.

    python -S function_worker.py EVENTS RESULTS PACKAGES…

Events come as lines of JSON on the descriptor EVENTS; on RESULTS go back, in order, what the function prints
and what it returns. The process ends when the events end, so also when the server is gone. It imports from
the function's folder and the folders PACKAGES; what `site` would add takes longer than the rest of the start.
"""

import gc
import importlib
import io
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import IO, Any


class Context:
    """What Lambda hands to a handler beside the event (Lambda Developer Guide, "Python context object")."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.aws_request_id: str = request["request_id"]
        self.invoked_function_arn: str = request["function_arn"]
        self.function_name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
        self.function_version = os.environ["AWS_LAMBDA_FUNCTION_VERSION"]
        self.memory_limit_in_mb = os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
        self.log_group_name = os.environ["AWS_LAMBDA_LOG_GROUP_NAME"]
        self.log_stream_name = os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]
        self.identity = None
        self.client_context = None
        self._deadline = time.monotonic() + request["timeout"]

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self._deadline - time.monotonic()) * 1000))


class Printed(io.TextIOBase):
    """Standard output, as messages among the results: so it is known which event a line belongs to."""

    def __init__(self, results: IO[str]) -> None:
        self._results = results
        self._rest = ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._results.write(json.dumps({"log": line}) + "\n")
        return len(text)

    def flush(self) -> None:
        if self._rest:
            self.write("\n")

    def writable(self) -> bool:
        return True


def main() -> None:
    events_descriptor, results_descriptor, *packages = sys.argv[1:]
    sys.path.insert(0, os.environ["LAMBDA_TASK_ROOT"])
    sys.path += packages
    with (
        os.fdopen(int(events_descriptor), encoding="utf-8") as events,
        os.fdopen(int(results_descriptor), "w", encoding="utf-8", buffering=1) as results,
    ):
        sys.stdout = sys.stderr = Printed(results)
        logging.basicConfig(format="[%(levelname)s]\t%(asctime)s\t%(message)s", stream=sys.stdout)
        gc.disable()  # an import makes no garbage, and looking for it is a tenth of its time
        try:
            handler = find_handler(os.environ["_HANDLER"])
        except BaseException as error:
            traceback.print_exc()
            results.write(json.dumps({"init_error": described(error)}) + "\n")
            return
        gc.enable()
        results.write(json.dumps({"ready": True}) + "\n")
        for line in events:
            results.write(json.dumps(answer(handler, json.loads(line))) + "\n")


def find_handler(name: str) -> Callable[[Any, Context], Any]:
    """`approval.handler`, or `package/module.handler`."""
    module, _, function = name.rpartition(".")
    found: Callable[[Any, Context], Any] = getattr(
        importlib.import_module(module.replace("/", ".")), function
    )
    return found


def answer(handler: Callable[[Any, Context], Any], request: dict[str, Any]) -> dict[str, Any]:
    try:
        result = handler(request["event"], Context(request))
        if isinstance(result, bytes):
            return {"result": result.decode()}
        try:
            return {"result": json.dumps(result)}
        except (TypeError, ValueError) as error:
            message = f"Unable to marshal response: {error}"
            return {"error": {"errorMessage": message, "errorType": "Runtime.MarshalError", "stackTrace": []}}
    except SystemExit:
        raise
    except BaseException as error:
        traceback.print_exc()
        return {"error": described(error) | {"requestId": request["request_id"]}}
    finally:
        sys.stdout.flush()


def described(error: BaseException) -> dict[str, Any]:
    """An error as Lambda gives it: message, type, stack from the function's own code on, in /var/task."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    code = f'File "{os.environ["LAMBDA_TASK_ROOT"]}/'
    return {
        "errorMessage": str(error),
        "errorType": type(error).__name__,
        "stackTrace": [line.replace(code, 'File "/var/task/') for line in traceback.format_list(frames)],
    }


if __name__ == "__main__":
    main()
