"""`python -m stagegate.local --port 4566 --data DIR`: the runtime without the rest of the command line."""

import argparse
import sys
from pathlib import Path

from stagegate.errors import StagegateError
from stagegate.local.server import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m stagegate.local")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=4566)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--preload", type=lambda names: tuple(filter(None, names.split(","))))
    arguments = parser.parse_args()
    try:
        run(host=arguments.host, port=arguments.port, data=arguments.data, preload=arguments.preload)
    except StagegateError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


sys.exit(main())
