import time


def test_a_prefix_of_stream_names_is_heeded(local):
    logs = local.client("logs")
    logs.create_log_group(logGroupName="group")
    for stream in ("a/1", "a/2", "b/1"):
        logs.create_log_stream(logGroupName="group", logStreamName=stream)
        events = [{"timestamp": int(time.time() * 1000), "message": f"of {stream}"}]
        logs.put_log_events(logGroupName="group", logStreamName=stream, logEvents=events)

    def messages(**members):
        return [
            event["message"] for event in logs.filter_log_events(logGroupName="group", **members)["events"]
        ]

    assert messages(logStreamNamePrefix="a/") == ["of a/1", "of a/2"]
    assert messages(logStreamNamePrefix="c/") == []
    assert messages(logStreamNames=["b/1"]) == ["of b/1"]
    assert len(messages()) == 3
