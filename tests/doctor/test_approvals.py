"""Decisions that a link alone would make."""

from typing import Any

from stagegate.doctor import Finding
from tests.doctor.examples import call, machine, named, resource, role, template, wrong

DECIDES = {"Action": "states:SendTask*"}
SENDS = "sfn.send_task_success(taskToken=event['queryStringParameters']['token'], output='{}')"


def function(code: dict[str, Any]) -> dict[str, Any]:
    return resource("Lambda::Function", Code=code, Role={"Fn::GetAtt": "Role.Arn"})


URI = {
    "Fn::Sub": "arn:aws:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/${Decide.Arn}/invocations"
}


def method(name: str) -> dict[str, Any]:
    return resource("ApiGateway::Method", HttpMethod=name, Integration={"Uri": URI})


def test_a_method_that_reads_and_decides_is_found() -> None:
    around = {"Decide": function({"S3Bucket": "b", "S3Key": "k"}), "Role": role(DECIDES)}

    assert wrong("decided-by-get", template(Method=method("GET"), **around)) == [
        "GET calls Decide, which may send a task's result"
    ]
    assert named("decided-by-get", template(Method=method("ANY"), **around))
    assert named("decided-by-get", template(Method=method("POST"), **around)) == []
    harmless = around | {"Role": role({"Action": "s3:GetObject"})}
    assert named("decided-by-get", template(Method=method("GET"), **harmless)) == []


def test_a_route_that_reads_and_decides_is_found() -> None:
    def found(key: str) -> list[Finding]:
        route = resource("ApiGatewayV2::Route", RouteKey=key, Target={"Fn::Sub": "integrations/${To}"})
        to = resource("ApiGatewayV2::Integration", IntegrationUri={"Fn::GetAtt": "Decide.Arn"})
        decide = function({"S3Bucket": "b", "S3Key": "k"})
        return named("decided-by-get", template(Route=route, To=to, Decide=decide, Role=role(DECIDES)))

    assert found("GET /approve") and found("ANY /approve") and found("$default")
    assert found("POST /approve") == []


def test_a_function_url_that_decides_whatever_the_method_is_found() -> None:
    url = resource("Lambda::Url", TargetFunctionArn={"Fn::GetAtt": "Decide.Arn"}, AuthType="NONE")
    looks = "if event['requestContext']['http']['method'] == 'POST':\n    " + SENDS

    assert named("decided-by-get", template(Url=url, Decide=function({"ZipFile": SENDS}), Role=role(DECIDES)))
    assert (
        named("decided-by-get", template(Url=url, Decide=function({"ZipFile": looks}), Role=role(DECIDES)))
        == []
    )


def test_a_token_that_is_mailed_is_found() -> None:
    def found(api: str, **fields: Any) -> list[Finding]:
        return named("decided-by-get", machine(call(api, TimeoutSeconds=60, **fields)))

    link = "States.Format('https://example.com/approve?token={}', $$.Task.Token)"
    jsonata = "{% 'Approve: https://example.com/?t=' & $states.context.Task.Token %}"

    assert found("sns:publish.waitForTaskToken", Parameters={"Message.$": link})
    assert found("sns:publish.waitForTaskToken", QueryLanguage="JSONata", Arguments={"Message": jsonata})
    assert found("lambda:invoke.waitForTaskToken", Parameters={"Payload": {"Link.$": link}})
    assert (
        found("lambda:invoke.waitForTaskToken", Parameters={"Payload": {"TaskToken.$": "$$.Task.Token"}})
        == []
    )
