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
        "list": [{"key": "a"}, {"key": "b"}],
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
    ],
)
def test_a_pattern_matches_as_documented(pattern, expected):
    check(pattern)

    assert matches(pattern, EVENT) is expected


@pytest.mark.parametrize(
    "pattern",
    [
        {},
        [],
        {"source": "aws.s3"},
        {"source": []},
        {"source": [["x"]]},
        {"source": [{"regex": "x"}]},
        {"source": [{"prefix": 3}]},
        {"source": [{"prefix": "a", "suffix": "b"}]},
        {"source": [{"numeric": [">"]}]},
        {"source": [{"numeric": ["!", 3]}]},
        {"source": [{"exists": "yes"}]},
        {"source": [{"cidr": "10.0.0"}]},
        {"source": [{"wildcard": "a**b"}]},
        {"source": [{"anything-but": {"numeric": ["=", 1]}}]},
        {"$or": [{"source": ["x"]}]},
    ],
)
def test_what_is_no_pattern_is_refused(pattern):
    with pytest.raises(AWSError) as caught:
        check(pattern)

    assert caught.value.code == "InvalidEventPatternException"
