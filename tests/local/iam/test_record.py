"""What roles asked for is kept, once each, bounded; and set beside their policies."""

from stagegate.local.iam.policies import Decision, Role, statements_of
from stagegate.local.iam.record import Record
from stagegate.local.iam.resources import Request
from stagegate.local.iam.usage import usage_of
from stagegate.local.store import Store

ROLE = "arn:aws:iam::111111111111:role/jobs"
ALLOWED = Decision(is_allowed=True, statements=("jobs/1",))
REFUSED = Decision(is_allowed=False, reason="because no identity-based policy allows the s3:PutObject action")


def request(action: str, resource: str = "arn:aws:s3:::data/a") -> Request:
    return Request(action=action, resource=resource)


def recorded(record: Record) -> list[tuple[str, str, bool]]:
    return [(asked["Action"], asked["Resource"], asked["IsAllowed"]) for asked in record.all()]


def test_a_record_is_there_after_a_restart_with_what_was_decided_last(tmp_path):
    store = Store(tmp_path / "store.db")
    record = Record(store)
    record.add(ROLE, request("s3:PutObject"), REFUSED)
    record.add(ROLE, request("s3:GetObject"), ALLOWED)
    record.add(ROLE, request("s3:GetObject"), ALLOWED)
    record.add(ROLE, request("s3:PutObject"), ALLOWED)
    store.commit()

    assert recorded(Record(store)) == [
        ("s3:PutObject", "arn:aws:s3:::data/a", True),
        ("s3:GetObject", "arn:aws:s3:::data/a", True),
    ]
    store.close()


def test_what_was_asked_for_first_goes_first(tmp_path):
    store = Store(tmp_path / "store.db")
    record = Record(store, most=2)
    for name in "abc":
        record.add(ROLE, request("s3:GetObject", name), ALLOWED)

    assert [resource for _, resource, _ in recorded(record)] == ["b", "c"]
    record.clear()
    assert recorded(Record(store)) == []
    store.close()


def test_a_role_is_told_its_calls_and_what_of_its_policies_nothing_needed():
    document = {
        "Statement": [
            {"Effect": "Allow", "Action": ["s3:GetObject", "s3:List*"], "Resource": ["data/*", "other/*"]},
            {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": "*"},
            {"Effect": "Deny", "Action": "iam:*", "Resource": "*"},
        ]
    }
    role = Role(arn=ROLE, role_id="AROAX", trust={}, statements=statements_of("jobs", document))
    asked = [
        {"Role": ROLE, "Action": "s3:GetObject", "Resource": "data/a", "IsAllowed": True,
         "Statements": ["jobs/1"], "Reason": ""},
        {"Role": "arn:aws:iam::111111111111:role/gone", "Action": "s3:PutObject", "Resource": "data/a",
         "IsAllowed": False, "Statements": [], "Reason": "because"},
    ]  # fmt: skip

    gone, jobs = usage_of({"jobs": role}, asked)

    assert (gone["Role"], gone["Exists"], len(gone["Calls"]), gone["Unused"]) == (
        "arn:aws:iam::111111111111:role/gone",
        False,
        1,
        [],
    )
    assert jobs["Unused"] == [
        {"Statement": "jobs/1", "Actions": ["s3:List*"], "Resources": ["other/*"]},
        {"Statement": "jobs/2", "Actions": ["sqs:SendMessage"], "Resources": []},
    ]
