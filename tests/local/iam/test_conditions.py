"""A statement's Condition: its operators, with and without values, for one value and for many."""

import pytest

from stagegate.local.iam.conditions import are_met, matches, substituted

CONTEXT = {
    "aws:principalarn": ["arn:aws:iam::111111111111:role/stagegate-jobs"],
    "aws:requestedregion": ["us-east-1"],
    "aws:securetransport": ["true"],
    "aws:sourceip": ["10.1.2.3"],
    "aws:currenttime": ["2026-03-01T00:00:00Z"],
    "aws:tagkeys": ["team", "stage"],
    "s3:max-keys": ["10"],
    "s3:prefix": ["runs/r-1/"],
    "iam:passedtoservice": ["sagemaker.amazonaws.com"],
}


@pytest.mark.parametrize(
    ("operator", "key", "expected", "met"),
    [
        ("StringEquals", "iam:PassedToService", "sagemaker.amazonaws.com", True),
        ("StringEquals", "iam:PassedToService", ["lambda.amazonaws.com", "sagemaker.amazonaws.com"], True),
        ("StringEquals", "iam:PassedToService", "SageMaker.amazonaws.com", False),
        ("StringEqualsIgnoreCase", "iam:PassedToService", "SageMaker.amazonaws.com", True),
        ("StringNotEquals", "iam:PassedToService", ["lambda.amazonaws.com"], True),
        (
            "StringNotEquals",
            "iam:PassedToService",
            ["lambda.amazonaws.com", "sagemaker.amazonaws.com"],
            False,
        ),
        ("StringLike", "s3:prefix", "runs/*", True),
        ("StringLike", "s3:prefix", "run?/r-?/", True),
        ("StringLike", "s3:prefix", "datasets/*", False),
        ("StringNotLike", "s3:prefix", "datasets/*", True),
        ("ArnLike", "aws:PrincipalArn", "arn:aws:iam::*:role/stagegate-*", True),
        ("ArnEquals", "aws:PrincipalArn", "arn:aws:iam::*:role/other-*", False),
        ("ArnNotLike", "aws:PrincipalArn", "arn:aws:iam::*:role/other-*", True),
        ("ArnLike", "aws:PrincipalArn", "arn:aws:*:role/stagegate-jobs", False),
        ("NumericLessThan", "s3:max-keys", "11", True),
        ("NumericLessThan", "s3:max-keys", 10, False),
        ("NumericLessThanEquals", "s3:max-keys", 10, True),
        ("NumericGreaterThan", "s3:max-keys", "many", False),
        ("NumericNotEquals", "s3:max-keys", "10.0", False),
        ("DateLessThan", "aws:CurrentTime", "2026-03-01T00:00:01Z", True),
        ("DateGreaterThan", "aws:CurrentTime", "2026-03-01T00:00:01Z", False),
        ("Bool", "aws:SecureTransport", "true", True),
        ("Bool", "aws:SecureTransport", False, False),
        ("IpAddress", "aws:SourceIp", "10.1.0.0/16", True),
        ("NotIpAddress", "aws:SourceIp", ["10.1.0.0/16", "192.168.0.0/16"], False),
        ("Null", "aws:SourceVpc", "true", True),
        ("Null", "aws:SourceIp", "true", False),
        ("Null", "aws:SourceIp", False, True),
        ("ForAllValues:StringEquals", "aws:TagKeys", ["team", "stage", "cost"], True),
        ("ForAllValues:StringEquals", "aws:TagKeys", ["team"], False),
        ("ForAllValues:StringEquals", "aws:Nothing", ["team"], True),
        ("ForAnyValue:StringEquals", "aws:TagKeys", ["team"], True),
        ("ForAnyValue:StringLike", "aws:TagKeys", ["x*"], False),
        ("ForAnyValue:StringEquals", "aws:Nothing", ["team"], False),
    ],
)
def test_an_operator_compares_what_the_request_has_with_what_the_policy_says(operator, key, expected, met):
    assert are_met({operator: {key: expected}}, CONTEXT) is met


@pytest.mark.parametrize(
    ("operator", "met"),
    [("StringEquals", False), ("StringEqualsIfExists", True), ("StringNotEquals", True), ("Bool", False)],
)
def test_a_key_that_the_request_does_not_have_is_no_value(operator, met):
    assert are_met({operator: {"aws:SourceVpc": "vpc-1"}}, CONTEXT) is met


def test_all_operators_and_all_keys_have_to_agree():
    both = {
        "StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com", "aws:RequestedRegion": "eu-west-1"}
    }

    assert not are_met(both, CONTEXT)
    assert are_met({}, CONTEXT)


def test_a_variable_is_what_the_request_has_and_no_pattern():
    assert substituted("runs/${s3:prefix}x", {"s3:prefix": ["a"]}) == "runs/ax"
    pattern = substituted("${s3:prefix}", {"s3:prefix": ["a*"]})
    assert pattern is not None
    assert matches(pattern, "a*") and not matches(pattern, "ab")
    star = substituted("a${*}", {})
    assert star is not None
    assert matches(star, "a*") and not matches(star, "ab")


def test_a_variable_without_a_value_matches_nothing_unless_it_has_a_default():
    assert substituted("runs/${aws:username}", {}) is None
    assert substituted("runs/${aws:username, 'all'}", {}) == "runs/all"
    assert not are_met({"StringLike": {"s3:prefix": "${aws:username}*"}}, CONTEXT)
