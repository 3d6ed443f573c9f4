"""Test reports: each format that a buildspec may name, and the groups that reports are in."""

import json

import pytest
from botocore.exceptions import ClientError

from tests.local.build_runs import BUCKET, Builds

JUNIT = """<testsuite><testcase classname="c" name="good" time="0.5"/>
<testcase classname="c" name="bad"><failure message="why"/></testcase>
<testcase classname="c" name="left"><skipped message="why"/></testcase></testsuite>"""
TESTNG = """<testng-results><suite><test><class name="c">
<test-method name="setUp" status="PASS" is-config="true" duration-ms="1"/>
<test-method name="good" status="PASS" duration-ms="500"/>
<test-method name="bad" status="FAIL" duration-ms="0"><exception><message>why</message></exception>
</test-method>
<test-method name="left" status="SKIP" duration-ms="0"><exception><message>why</message></exception>
</test-method>
</class></test></suite></testng-results>"""
NUNIT = """<test-results><test-suite><results>
<test-case name="c.good" executed="True" success="True" time="0.5"/>
<test-case name="c.bad" executed="True" success="False"><failure><message>why</message></failure></test-case>
<test-case name="c.left" executed="False"><reason><message>why</message></reason></test-case>
</results></test-suite></test-results>"""
NUNIT3 = """<test-run><test-suite>
<test-case name="good" classname="c" result="Passed" duration="0.5"/>
<test-case name="bad" classname="c" result="Failed"><failure><message>why</message></failure></test-case>
<test-case name="left" classname="c" result="Skipped"><reason><message>why</message></reason></test-case>
</test-suite></test-run>"""
TRX = """<TestRun xmlns="http://microsoft.com/schemas/VisualStudio/TeamTest/2010">
<TestDefinitions><UnitTest id="1"><TestMethod className="c" name="x"/></UnitTest></TestDefinitions><Results>
<UnitTestResult testId="1" testName="good" outcome="Passed" duration="00:00:00.5000000"/>
<UnitTestResult testId="1" testName="bad" outcome="Failed"><Output><ErrorInfo><Message>why</Message>
</ErrorInfo></Output></UnitTestResult>
<UnitTestResult testId="1" testName="left" outcome="NotExecuted"><Output><ErrorInfo><Message>why</Message>
</ErrorInfo></Output></UnitTestResult></Results></TestRun>"""


def scenario(name, status, **result):
    return {"name": name, "steps": [{"result": {"status": status, **result}}]}


CUCUMBER = json.dumps(
    [
        {
            "name": "c",
            "elements": [
                scenario("good", "passed", duration=500_000_000),
                scenario("bad", "failed", error_message="why"),
                scenario("left", "skipped", error_message="why"),
            ],
        }
    ]
)
FORMATS = {
    "JUNITXML": JUNIT,
    "TestNGXML": TESTNG,
    "NUNITXML": NUNIT,
    "NUNIT3XML": NUNIT3,
    "VISUALSTUDIOTRX": TRX,
    "CUCUMBERJSON": CUCUMBER,
}


@pytest.fixture(scope="module")
def builds(shared_local):
    return Builds(shared_local)


def reported(builds, text, group, file_format):
    builds.s3.put_object(Bucket=BUCKET, Key="files/out/report", Body=text)
    build = builds.build(
        {
            "version": 0.2,
            "phases": {"build": {"commands": ["true"]}},
            "reports": {group: {"files": ["out/report"], "file-format": file_format}},
        },
        sourceTypeOverride="S3",
        sourceLocationOverride=f"{BUCKET}/files/",
    )
    assert build["buildStatus"] == "SUCCEEDED", build
    (report,) = builds.client.batch_get_reports(reportArns=build["reportArns"])["reports"]
    return report


@pytest.mark.parametrize(("file_format", "text"), FORMATS.items(), ids=list(FORMATS))
def test_a_report_says_what_the_file_says(builds, file_format, text):
    report = reported(builds, text, file_format, file_format)

    assert report["status"] == "FAILED"
    assert report["testSummary"]["statusCounts"] == {"SUCCEEDED": 1, "FAILED": 1, "SKIPPED": 1}
    cases = builds.client.describe_test_cases(reportArn=report["arn"])["testCases"]
    members = ("prefix", "name", "status", "durationInNanoSeconds", "message")
    assert [tuple(case[member] for member in members) for case in cases] == [
        ("c", "good", "SUCCEEDED", 500_000_000, ""),
        ("c", "bad", "FAILED", 0, "why"),
        ("c", "left", "SKIPPED", 0, "why"),
    ]
    assert {case["testRawDataPath"] for case in cases} == {"out/report"}
    (failed,) = builds.client.describe_test_cases(reportArn=report["arn"], filter={"status": "FAILED"})[
        "testCases"
    ]
    assert failed["name"] == "bad"


def test_a_file_that_is_not_what_it_should_be_leaves_an_incomplete_report(builds):
    report = reported(builds, "<testsuite>", "broken", "JUNITXML")

    assert (report["status"], report["testSummary"]["total"]) == ("INCOMPLETE", 0)


def test_the_first_report_makes_its_group_and_an_arn_names_one_that_is_there(builds):
    first = reported(builds, JUNIT, "mine", "JUNITXML")
    (group,) = builds.client.batch_get_report_groups(reportGroupArns=[first["reportGroupArn"]])[
        "reportGroups"
    ]
    assert (group["name"], group["type"], group["status"]) == ("project-mine", "TEST", "ACTIVE")

    second = reported(builds, JUNIT, group["arn"], "JUNITXML")

    listed = builds.client.list_reports_for_report_group(reportGroupArn=group["arn"])["reports"]
    assert listed == [second["arn"], first["arn"]]
    assert set(listed) <= set(builds.client.list_reports(filter={"status": "FAILED"})["reports"])


def test_report_groups_are_made_changed_and_deleted(builds):
    client = builds.client
    config = {"exportConfigType": "NO_EXPORT"}
    group = client.create_report_group(name="made", type="TEST", exportConfig=config)["reportGroup"]

    with pytest.raises(client.exceptions.ResourceAlreadyExistsException):
        client.create_report_group(name="made", type="TEST", exportConfig=config)
    with pytest.raises(ClientError, match="only NO_EXPORT is supported"):
        client.update_report_group(arn=group["arn"], exportConfig={"exportConfigType": "S3"})
    tags = [{"key": "a", "value": "b"}]
    assert client.update_report_group(arn=group["arn"], tags=tags)["reportGroup"]["tags"] == tags
    assert group["arn"] in client.list_report_groups()["reportGroups"]
    report = reported(builds, JUNIT, group["arn"], "JUNITXML")
    with pytest.raises(client.exceptions.InvalidInputException):
        client.delete_report_group(arn=group["arn"])
    client.delete_report_group(arn=group["arn"], deleteReports=True)
    assert client.batch_get_reports(reportArns=[report["arn"]])["reportsNotFound"] == [report["arn"]]
    assert group["arn"] not in client.list_report_groups()["reportGroups"]
