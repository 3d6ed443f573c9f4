"""docs/emulated.md says what the code does."""

from pathlib import Path

from stagegate.local.emulated import document, our_operations

ROOT = Path(__file__).parent.parent.parent


def test_the_document_is_up_to_date():
    assert (ROOT / "docs" / "emulated.md").read_text() == document(), (
        "write it again: python -m stagegate.local.emulated"
    )


def test_the_operations_that_the_state_machines_call_are_ours():
    ours = our_operations()

    for service, operation in [
        ("stepfunctions", "StartExecution"),
        ("sagemaker", "CreateTrainingJob"),
        ("sagemaker", "CreateProcessingJob"),
        ("sagemaker", "CreateModelPackage"),
        ("sagemaker-runtime", "InvokeEndpoint"),
        ("lambda", "Invoke"),
        ("events", "PutRule"),
        ("cloudformation", "CreateStack"),
        ("codebuild", "StartBuild"),
        ("sns", "Publish"),
    ]:
        assert operation in ours[service], f"{service}:{operation}"
