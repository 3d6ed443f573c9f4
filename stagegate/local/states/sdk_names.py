"""Names as the AWS SDK for Java 2 makes them from an API's model, which "aws-sdk:" integrations show.

`DBInstanceArn` is `DbInstanceArn`, `SS` is `Ss`, and `NoSuchBucket` is thrown as `NoSuchBucketException`.
"""

import re
from functools import lru_cache

_ABBREVIATION = re.compile(r"[A-Z]+(?![a-z])|[A-Z]")
_WORD = re.compile(r"[A-Z]{2,}(?=v[0-9])|v[0-9]+|[A-Z]+(?![a-z])[0-9]*|[A-Z][a-z]+[0-9]*|[a-z]+[0-9]*|[0-9]+")
_RESERVED = {"Null": "Nul"}
"""What would be a word of Java, but for its letter."""


@lru_cache(maxsize=10_000)
def member_name(name: str) -> str:
    """A member: the abbreviation that it begins with is a word."""
    first = _ABBREVIATION.match(name)
    written = name[:1].upper() + name[1:] if first is None else first[0].capitalize() + name[first.end() :]
    return _RESERVED.get(written, written)


@lru_cache(maxsize=10_000)
def exception_name(shape: str) -> str:
    """An exception: each abbreviation in it is a word."""
    words = _WORD.findall(shape.removesuffix("Fault").removesuffix("Exception"))
    return "".join(word.capitalize() for word in words) + "Exception"
