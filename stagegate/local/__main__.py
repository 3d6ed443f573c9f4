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
    parser.add_argument("--faults", type=Path)
    parser.add_argument("--account")
    parser.add_argument("--region")
    parser.add_argument("--enforce-iam", action="store_true")
    try:
        run(**vars(parser.parse_args()))
    except StagegateError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


sys.exit(main())
