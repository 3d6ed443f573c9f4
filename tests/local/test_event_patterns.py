"""Event patterns, after the EventBridge User Guide's "Comparison operators for use in event patterns"."""

import pytest

from stagegate.local.event_patterns import check, matches
from stagegate.local.service import AWSError

EVENT = {
    "source": "aws.sagemaker",
    "detail-type": "SageMaker Model Package State Change",
    "resources": ["arn:a", "arn:b"],
    "detail": {
        "name": "Model-7.tar.gz",
        "status": "Approved",
        "accuracy": 0.87,
        "count": 3,
        "flag": True,
        "nothing": None,
        "empty": "",
        "address": "10.0.0.7",
        "list": [{"key": "a", "n": 1}, {"key": "b", "n": 2, "deep": [{"x": 1}, {"x": 2, "y": 3}]}],
        "none": [],
        "large": 123456789012,
        "object": {"inner": 1},
        "path": "a*b\\c",
        "six": "2001:db8::7",
    },
}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ({"source": ["aws.sagemaker"]}, True),
        ({"source": ["aws.s3", "aws.sagemaker"]}, True),
        ({"source": ["aws.s3"]}, False),
        ({"absent": ["x"]}, False),
        ({"resources": ["arn:b"]}, True),
        ({"resources": ["arn:c"]}, False),
        ({"detail": {"status": ["Approved"], "count": [3]}}, True),
        ({"detail": {"status": ["Approved"], "count": [4]}}, False),
        ({"detail": {"flag": [True]}}, True),
        ({"detail": {"flag": [1]}}, False),
        ({"detail": {"nothing": [None]}}, True),
        ({"detail": {"empty": [""]}}, True),
        ({"detail": {"list": {"key": ["b"]}}}, True),
        ({"detail": {"list": {"key": ["c"]}}}, False),
        ({"detail": {"name": [{"prefix": "Model-"}]}}, True),
        ({"detail": {"name": [{"prefix": "model-"}]}}, False),
        ({"detail": {"name": [{"prefix": {"equals-ignore-case": "model-"}}]}}, True),
        ({"detail": {"name": [{"suffix": ".gz"}]}}, True),
        ({"detail": {"name": [{"suffix": {"equals-ignore-case": ".GZ"}}]}}, True),
        ({"detail": {"status": [{"equals-ignore-case": "approved"}]}}, True),
        ({"detail": {"status": [{"equals-ignore-case": "rejected"}]}}, False),
        ({"detail": {"name": [{"wildcard": "Model-*.tar.*"}]}}, True),
        ({"detail": {"name": [{"wildcard": "Model-*.zip"}]}}, False),
        ({"detail": {"name": [{"wildcard": "Model-\\*"}]}}, False),
        ({"detail": {"status": [{"anything-but": "Rejected"}]}}, True),
        ({"detail": {"status": [{"anything-but": ["Approved", "Rejected"]}]}}, False),
        ({"detail": {"count": [{"anything-but": [1, 2]}]}}, True),
        ({"detail": {"name": [{"anything-but": {"prefix": "Model"}}]}}, False),
        ({"detail": {"name": [{"anything-but": {"suffix": [".zip", ".tar"]}}]}}, True),
        ({"detail": {"absent": [{"anything-but": "x"}]}}, False),
        ({"detail": {"accuracy": [{"numeric": [">", 0.8]}]}}, True),
        ({"detail": {"accuracy": [{"numeric": [">", 0, "<=", 0.5]}]}}, False),
        ({"detail": {"count": [{"numeric": ["=", 3.0]}]}}, True),
        ({"detail": {"name": [{"numeric": ["=", 3]}]}}, False),
        ({"detail": {"status": [{"exists": True}]}}, True),
        ({"detail": {"absent": [{"exists": False}]}}, True),
        ({"detail": {"status": [{"exists": False}]}}, False),
        ({"detail": {"absent": {"deeper": [{"exists": False}]}}}, True),
        ({"detail": {"address": [{"cidr": "10.0.0.0/24"}]}}, True),
        ({"detail": {"address": [{"cidr": "10.1.0.0/24"}]}}, False),
        ({"detail": {"status": [{"cidr": "10.1.0.0/24"}]}}, False),
        ({"$or": [{"source": ["x"]}, {"detail": {"count": [3]}}]}, True),
        ({"$or": [{"source": ["x"]}, {"detail": {"count": [4]}}], "source": ["aws.sagemaker"]}, False),
        ({"detail": {"$or": [{"count": [9]}, {"flag": [True]}]}}, True),
        ({"source": ["x", {"prefix": "aws."}]}, True),
        # of an array of objects, one holds it all
        ({"detail": {"list": {"key": ["a"], "n": [1]}}}, True),
        ({"detail": {"list": {"key": ["a"], "n": [2]}}}, False),
        ({"detail": {"list": {"key": ["b"], "deep": {"x": [2], "y": [3]}}}}, True),
        ({"detail": {"list": {"key": ["b"], "deep": {"x": [1], "y": [3]}}}}, False),
        ({"detail": {"list": {"key": ["a"], "deep": {"x": [2]}}}}, False),
        ({"detail": {"list": {"$or": [{"key": ["a"]}, {"n": [7]}], "n": [1]}}}, True),
        # one of an array's values is enough, for anything-but too
        ({"resources": [{"prefix": "arn:b"}]}, True),
        ({"resources": [{"anything-but": "arn:a"}]}, True),
        ({"resources": [{"anything-but": ["arn:a", "arn:b"]}]}, False),
        ({"detail": {"none": [{"anything-but": "x"}]}}, False),
        # null, the empty text and what is not there are three things
        ({"detail": {"nothing": [""]}}, False),
        ({"detail": {"empty": [None]}}, False),
        ({"detail": {"absent": [None]}}, False),
        ({"detail": {"nothing": [{"exists": True}]}}, True),
        ({"detail": {"empty": [{"exists": True}]}}, True),
        ({"detail": {"empty": [{"prefix": ""}]}}, True),
        # exists looks at leaves alone
        ({"detail": {"object": [{"exists": True}]}}, False),
        ({"detail": {"object": [{"exists": False}]}}, True),
        ({"detail": {"object": {"inner": [{"exists": True}]}}}, True),
        ({"detail": {"none": [{"exists": True}]}}, False),
        ({"detail": {"list": {"deep": {"y": [{"exists": False}]}}}}, False),
        ({"detail": {"absent": [{"exists": False}, "x"]}}, True),
        ({"detail": {"status": [{"exists": False}, "Approved"]}}, True),
        ({"detail": {"status": [{"exists": False}, "Rejected"]}}, False),
        # anything-but around each operator, with one value and with several
        ({"detail": {"name": [{"anything-but": {"prefix": ["Data", "Model"]}}]}}, False),
        ({"detail": {"name": [{"anything-but": {"suffix": ".zip"}}]}}, True),
        ({"detail": {"status": [{"anything-but": {"equals-ignore-case": "APPROVED"}}]}}, False),
        ({"detail": {"status": [{"anything-but": {"equals-ignore-case": ["a", "b"]}}]}}, True),
        ({"detail": {"name": [{"anything-but": {"wildcard": "*.tar.*"}}]}}, False),
        ({"detail": {"name": [{"anything-but": {"wildcard": ["*.zip", "*/x"]}}]}}, True),
        ({"detail": {"count": [{"anything-but": 3}]}}, False),
        ({"detail": {"count": [{"anything-but": "3"}]}}, True),
        ({"detail": {"nothing": [{"anything-but": "x"}]}}, True),
        ({"detail": {"status": [{"anything-but": "Approved"}, "Approved"]}}, True),
        # ranges, with and without their ends
        ({"detail": {"count": [{"numeric": [">=", 3, "<", 4]}]}}, True),
        ({"detail": {"count": [{"numeric": [">", 3, "<=", 4]}]}}, False),
        ({"detail": {"count": [{"numeric": ["<", 3]}]}}, False),
        ({"detail": {"count": [{"numeric": ["<=", 3]}]}}, True),
        ({"detail": {"large": [{"numeric": [">", 0]}]}}, False),
        ({"detail": {"large": [123456789012]}}, True),
        # wildcards: any number of characters, none too; a backslash takes their meaning away
        ({"detail": {"status": [{"wildcard": "Approved*"}]}}, True),
        ({"detail": {"status": [{"wildcard": "*"}]}}, True),
        ({"detail": {"empty": [{"wildcard": "*"}]}}, True),
        ({"detail": {"path": [{"wildcard": "a\\*b\\\\*"}]}}, True),
        ({"detail": {"status": [{"wildcard": "approved"}]}}, False),
        ({"detail": {"six": [{"cidr": "2001:db8::/32"}]}}, True),
        ({"detail": {"address": [{"cidr": "10.0.0.7/32"}]}}, True),
        # choices within choices, and beside what must hold anyway
        (
            {"$or": [{"source": ["x"]}, {"detail": {"$or": [{"count": [9]}, {"flag": [True]}]}}]},
            True,
        ),
        (
            {"$or": [{"source": ["x"]}, {"detail": {"$or": [{"count": [9]}, {"flag": [False]}]}}]},
            False,
        ),
        (
            {
                "detail": {
                    "$or": [{"count": [{"numeric": [">", 1]}]}, {"absent": [{"exists": True}]}],
                    "status": [{"anything-but": {"prefix": "Rej"}}],
                }
            },
            True,
        ),
    ],
)
def test_a_pattern_matches_as_documented(pattern, expected):
    check(pattern)

    assert matches(pattern, EVENT) is expected


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ({}, "Empty objects are not allowed"),
        ([], "Filter is not an object"),
        ({"detail": {}}, "Empty objects are not allowed"),
        ({"source": "aws.s3"}, '"source" must be an object or an array'),
        ({"source": None}, '"source" must be an object or an array'),
        ({"source": []}, "Empty arrays are not allowed"),
        ({"source": [["x"]]}, "Match value must be String, number, true, false, or null"),
        ({"source": [{}]}, "Match expression name not found"),
        ({"source": [{"regex": "x"}]}, "Unrecognized match type regex"),
        ({"source": [{"prefix": 3}]}, "prefix match pattern must be a string"),
        ({"source": [{"suffix": None}]}, "suffix match pattern must be a string"),
        ({"source": [{"prefix": {"equals-ignore-case": 3}}]}, "prefix match pattern must be a string"),
        ({"source": [{"equals-ignore-case": ["a"]}]}, "equals-ignore-case match pattern must be a string"),
        ({"source": [{"prefix": "a", "suffix": "b"}]}, "Only one key allowed in match expression"),
        ({"source": [{"numeric": 3}]}, "Value of numeric must be an array."),
        ({"source": [{"numeric": []}]}, "Invalid member in numeric match: ]"),
        ({"source": [{"numeric": [3]}]}, "Invalid member in numeric match: 3"),
        ({"source": [{"numeric": [">"]}]}, "Value of > must be numeric"),
        ({"source": [{"numeric": ["=", "3"]}]}, "Value of equals must be numeric"),
        ({"source": [{"numeric": ["!", 3]}]}, "Unrecognized numeric range operator: !"),
        ({"source": [{"numeric": ["<", 3, ">", 1]}]}, "Too many elements in numeric expression"),
        ({"source": [{"numeric": [">", 3, 1]}]}, "Bad value in numeric range: 1"),
        ({"source": [{"numeric": [">", 3, ">", 1]}]}, "Bad numeric range operator: >"),
        ({"source": [{"numeric": [">", 3, "<", 3]}]}, "Bottom must be less than top"),
        ({"source": [{"numeric": [">", 3, "<", 4, 5]}]}, "Too many terms in numeric range expression"),
        ({"source": [{"numeric": [">", 6e9]}]}, "Value must be between -5.0E9 and 5.0E9, inclusive"),
        ({"source": [{"exists": "yes"}]}, "exists match pattern must be either true or false."),
        ({"source": [{"cidr": "10.0.0.1"}]}, "Malformed CIDR, one '/' required: 10.0.0.1"),
        ({"source": [{"wildcard": "a**b"}]}, "Consecutive wildcard characters at pos 1"),
        ({"source": [{"wildcard": "a\\b"}]}, "Invalid escape character at pos 1"),
        ({"source": [{"anything-but": {}}]}, "Anything-But expression name not found"),
        ({"source": [{"anything-but": {"numeric": ["=", 1]}}]}, "Unsupported anything-but pattern: numeric"),
        ({"source": [{"anything-but": {"prefix": ""}}]}, "Null prefix/suffix not allowed"),
        (
            {"source": [{"anything-but": True}]},
            "Value of anything-but must be an array or single string/number value.",
        ),
        (
            {"source": [{"anything-but": ["a", None]}]},
            "Inside anything but list, start|null|boolean is not supported.",
        ),
        (
            {"source": [{"anything-but": ["a", 1]}]},
            "Inside anything but list, either all values are number or string, mixed type is not supported",
        ),
        ({"$or": [{"source": ["x"]}]}, "Unrecognized match type source"),
        (
            {"a": {"$or": [{"x": [1]}] * 32}, "b": {"$or": [{"x": [1]}] * 32}},
            "$or makes more than 1000 combinations",
        ),
    ],
)
def test_what_is_no_pattern_is_refused(pattern, reason):
    with pytest.raises(AWSError) as caught:
        check(pattern)

    assert caught.value.code == "InvalidEventPatternException"
    assert caught.value.message == f"Event pattern is not valid. Reason: {reason}"
