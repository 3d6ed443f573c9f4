"""`python -m stagegate.local.emulated` writes docs/emulated.md: each operation we answer, and who does."""

import argparse
import importlib
import sys
from pathlib import Path

from botocore import xform_name

from stagegate.local import apis
from stagegate.local.moto_services import MOTO_BEHIND
from stagegate.local.services import SERVICES

DOCUMENT = Path("docs") / "emulated.md"

_HEAD = """\
# What the local runtime answers

Written by `python -m stagegate.local.emulated` from the code; a test fails when it is stale. An operation
that is not listed answers with an error that names it. **Ours** are really done: jobs run, endpoints serve,
stacks deploy, mail is sent. **moto's** are answered by moto, in memory, and kept on disk by us; how closely
they follow AWS is moto's affair, so test on AWS what depends on their finer points.
"""


def document() -> str:
    """The whole document."""
    ours, motos = our_operations(), moto_operations()
    parts = [_HEAD]
    for service in sorted(apis.APIS):
        mine = ours.get(service, [])
        others = sorted(set(motos.get(service, [])) - set(mine))
        if mine or others:
            parts.append(f"## {service}\n")
            parts += [
                f"{who}: {', '.join(names)}.\n"
                for who, names in (("Ours", mine), ("moto's", others))
                if names
            ]
    return "\n".join(parts)


def our_operations() -> dict[str, list[str]]:
    """For each API, the operations that a class of ours has a method for."""
    return {
        service: sorted(
            name
            for name in apis.model(service).operation_names
            if any(hasattr(found, xform_name(name)) for found in classes)
        )
        for service, classes in SERVICES.items()
    }


def moto_operations() -> dict[str, list[str]]:
    """For each API behind which moto stands, the operations that moto has a method for."""
    return {service: _of_moto(service) for service in sorted(MOTO_BEHIND)}


def _of_moto(service: str) -> list[str]:
    from moto.core.responses import BaseResponse
    from moto.core.utils import camelcase_to_underscores

    module = importlib.import_module(f"moto.{service}.responses")
    methods = {
        name
        for thing in vars(module).values()
        if isinstance(thing, type) and issubclass(thing, BaseResponse)
        for cls in thing.__mro__
        if cls.__module__ != "moto.core.responses"
        for name in vars(cls)
    }
    return sorted(
        name for name in apis.model(service).operation_names if camelcase_to_underscores(name) in methods
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m stagegate.local.emulated", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where the file is stale")
    if parser.parse_args().check:
        return 0 if DOCUMENT.read_text() == document() else 1
    DOCUMENT.write_text(document())
    return 0


if __name__ == "__main__":
    sys.exit(main())
