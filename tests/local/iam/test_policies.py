"""What policies come to together: allowing, denying, a boundary, a session's own policy, and trust."""

from typing import Any

import pytest

from stagegate.local.iam.policies import Role, decide, roles_of, statements_of, trusts

BUCKET = "arn:aws:s3:::data"


def role(*statements: dict[str, Any], boundary: dict[str, Any] | None = None) -> Role:
    return Role(
        arn="arn:aws:iam::111111111111:role/jobs",
        role_id="AROAX",
        trust={},
        statements=statements_of("jobs", {"Statement": list(statements)}),
        boundary=boundary and statements_of("limits", {"Statement": boundary}),
    )


def allow(action: Any, resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


@pytest.mark.parametrize(
    ("statement", "action", "resource", "allowed"),
    [
        (allow("s3:GetObject", f"{BUCKET}/runs/*"), "s3:GetObject", f"{BUCKET}/runs/a/b", True),
        (allow("S3:getobject", f"{BUCKET}/runs/*"), "s3:GetObject", f"{BUCKET}/runs/a", True),
        (allow("s3:Get*", f"{BUCKET}/runs/?"), "s3:GetObjectTagging", f"{BUCKET}/runs/a", True),
        (allow("s3:GetObject", f"{BUCKET}/runs/*"), "s3:GetObject", f"{BUCKET}/other", False),
        (allow("s3:GetObject", f"{BUCKET}/Runs/*"), "s3:GetObject", f"{BUCKET}/runs/a", False),
        (allow(["s3:PutObject", "s3:List*"], [BUCKET, "x"]), "s3:ListBucket", BUCKET, True),
        (allow("*"), "sqs:SendMessage", "arn:aws:sqs:us-east-1:1:q", True),
        ({"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}, "s3:GetObject", BUCKET, True),
        ({"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}, "iam:PassRole", BUCKET, False),
        (
            {"Effect": "Allow", "Action": "*", "NotResource": f"{BUCKET}*"},
            "s3:GetObject",
            f"{BUCKET}/a",
            False,
        ),
        ({"Effect": "Allow", "Action": "*", "NotResource": f"{BUCKET}*"}, "s3:GetObject", "other", True),
    ],
)
def test_a_statement_allows_its_actions_on_its_resources(statement, action, resource, allowed):
    assert decide(role(statement), action, resource, {}).is_allowed is allowed


def test_a_decision_names_every_statement_that_allows():
    decision = decide(
        role(allow("s3:*"), allow("sqs:*"), allow("s3:GetObject", BUCKET)), "s3:GetObject", BUCKET, {}
    )

    assert decision.is_allowed
    assert decision.statements == ("jobs/1", "jobs/3")


def test_a_denial_counts_whatever_is_allowed():
    denied = {"Effect": "Deny", "Action": "s3:DeleteObject", "Resource": "*"}

    decision = decide(role(allow("s3:*"), denied), "s3:DeleteObject", BUCKET, {})

    assert not decision.is_allowed
    assert decision.reason == "with an explicit deny in an identity-based policy"
    assert decision.statements == ("jobs/2",)


def test_what_nothing_allows_is_refused_in_the_words_of_aws():
    assert decide(role(allow("sqs:*")), "s3:GetObject", BUCKET, {}).reason == (
        "because no identity-based policy allows the s3:GetObject action"
    )
    assert not decide(None, "s3:GetObject", BUCKET, {}).is_allowed


def test_a_boundary_limits_what_the_policies_allow_and_gives_nothing_itself():
    limited = role(allow("s3:*"), boundary=allow(["s3:GetObject", "sqs:*"]))

    assert decide(limited, "s3:GetObject", BUCKET, {}).is_allowed
    assert decide(limited, "s3:PutObject", BUCKET, {}).reason == (
        "because no permissions boundary allows the s3:PutObject action"
    )
    assert not decide(limited, "sqs:SendMessage", "q", {}).is_allowed


def test_a_session_may_do_what_its_role_and_its_own_policy_allow():
    own = statements_of("session", {"Statement": allow("s3:GetObject")})

    assert decide(role(allow("s3:*")), "s3:GetObject", BUCKET, {}, session_policy=own).is_allowed
    assert decide(role(allow("s3:*")), "s3:PutObject", BUCKET, {}, session_policy=own).reason == (
        "because no session policy allows the s3:PutObject action"
    )


def test_a_condition_decides_whether_a_statement_applies():
    passing = allow(
        "iam:PassRole", Condition={"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
    )

    def passed_to(service: str) -> bool:
        return decide(role(passing), "iam:PassRole", "r", {"iam:passedtoservice": [service]}).is_allowed

    assert passed_to("sagemaker.amazonaws.com")
    assert not passed_to("lambda.amazonaws.com")


def test_a_variable_in_a_resource_is_the_requests():
    own = role(allow("s3:GetObject", f"{BUCKET}/${{aws:userid}}/*"))

    assert decide(own, "s3:GetObject", f"{BUCKET}/me/a", {"aws:userid": ["me"]}).is_allowed
    assert not decide(own, "s3:GetObject", f"{BUCKET}/you/a", {"aws:userid": ["me"]}).is_allowed


def test_inline_and_attached_policies_and_the_boundary_are_read_in_their_default_versions():
    def version(action: str, *, default: bool) -> dict[str, Any]:
        return {"Document": {"Statement": allow(action)}, "IsDefaultVersion": default}

    def policy(name: str, *versions: dict[str, Any]) -> dict[str, Any]:
        return {"Arn": f"arn:aws:iam::1:policy/{name}", "PolicyVersionList": list(versions)}

    details = {
        "Policies": [
            policy("managed", version("s3:*", default=False), version("sqs:*", default=True)),
            policy("limits", version("s3:Get*", default=True)),
        ],
        "RoleDetailList": [
            {
                "RoleName": "jobs",
                "Arn": "arn:aws:iam::1:role/jobs",
                "RoleId": "AROAX",
                "AssumeRolePolicyDocument": {"Statement": []},
                "RolePolicyList": [{"PolicyName": "own", "PolicyDocument": {"Statement": [allow("s3:*")]}}],
                "AttachedManagedPolicies": [{"PolicyArn": "arn:aws:iam::1:policy/managed"}],
                "PermissionsBoundary": {"PermissionsBoundaryArn": "arn:aws:iam::1:policy/limits"},
            }
        ],
    }

    jobs = roles_of(details)["jobs"]

    assert [statement.name for statement in jobs.statements] == ["own/1", "managed/1"]
    assert decide(jobs, "s3:GetObject", BUCKET, {}).is_allowed
    assert not decide(jobs, "sqs:SendMessage", "q", {}).is_allowed


TRUST = {
    "Statement": [
        {
            "Effect": "Allow",
            "Action": "sts:AssumeRole",
            "Principal": {"Service": ["sagemaker.amazonaws.com"], "AWS": "111111111111"},
            "Condition": {"StringEquals": {"aws:SourceAccount": "111111111111"}},
        },
        {"Effect": "Deny", "Action": "sts:*", "Principal": {"AWS": "arn:aws:iam::111111111111:role/bad"}},
    ]
}


@pytest.mark.parametrize(
    ("principals", "trusted"),
    [
        ({"Service": ["sagemaker.amazonaws.com"]}, True),
        ({"Service": ["lambda.amazonaws.com"]}, False),
        ({"AWS": ["arn:aws:iam::111111111111:root"]}, True),
        ({"AWS": ["arn:aws:iam::222222222222:root"]}, False),
        ({"AWS": ["arn:aws:iam::111111111111:root", "arn:aws:iam::111111111111:role/bad"]}, False),
    ],
)
def test_a_role_trusts_whom_its_trust_policy_names(principals, trusted):
    context = {"aws:sourceaccount": ["111111111111"]}

    assert trusts(TRUST, principals, "sts:AssumeRole", context) is trusted


def test_a_trust_policy_has_conditions_too():
    service = {"Service": ["sagemaker.amazonaws.com"]}

    assert not trusts(TRUST, service, "sts:AssumeRole", {"aws:sourceaccount": ["222222222222"]})
