"""Carries out what a stack's status says is under way: forward, clean up, back, away.

Each phase leaves the stack in a status that names the next one or is an end; all that a phase needs is in the
store, so that a phase that was cut short by the end of the server is simply run again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from stagegate.local.identity import of_token
from stagegate.local.service import AWSError, Runtime
from stagegate.local.stacks import parameters, references
from stagegate.local.stacks.evaluation import evaluator_of, imports
from stagegate.local.stacks.graph import dependencies, in_order, reversed_order
from stagegate.local.stacks.intrinsics import Evaluator
from stagegate.local.stacks.records import Document, Records
from stagegate.local.stacks.steps import IN_UPDATE, KEPT, Failed, Steps
from stagegate.local.stacks.template import parse


class Deployment:
    """One operation on one stack."""

    def __init__(self, runtime: Runtime, stack_id: str) -> None:
        self._records = Records(runtime)
        self._stack = self._records.stack(stack_id)
        self._runtime = acting(runtime, self._stack)
        self._steps = Steps(self._runtime, self._stack)

    async def run(self) -> None:
        """Go on from the stack's status until it is an end."""
        phases: Mapping[str, Callable[[], Awaitable[None]]] = {
            "CREATE_IN_PROGRESS": self._create,
            "ROLLBACK_IN_PROGRESS": self._roll_back_creation,
            "UPDATE_IN_PROGRESS": self._update,
            "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS": self._clean_up_after_update,
            "UPDATE_ROLLBACK_IN_PROGRESS": self._roll_back_update,
            "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS": self._clean_up_after_rollback,
            "DELETE_IN_PROGRESS": self._delete,
        }
        while phase := phases.get(self._stack["StackStatus"]):
            self._steps.failing.clear()
            await phase()
            await self._runtime.store.committed()

    # The phases

    async def _create(self) -> None:
        with self._time_limit() as timed_out:
            reason = await self._go_forward()
        if timed_out.is_set():
            reason = "Stack creation time exceeded the specified timeout. "
        if reason is None:
            self._set_status("CREATE_COMPLETE")
            return
        on_failure = self._stack.get("OnFailure", "ROLLBACK")
        if on_failure == "DO_NOTHING":
            self._set_status("CREATE_FAILED", reason)
        elif on_failure == "DELETE":
            self._set_status("DELETE_IN_PROGRESS", f"{reason}Delete requested by user.")
        else:
            self._set_status("ROLLBACK_IN_PROGRESS", f"{reason}Rollback requested by user.")

    async def _roll_back_creation(self) -> None:
        every = self._records.resources(self._stack["StackId"])
        failed = await self._take_away(every, retained=self._kept_when_new(every))
        self._stack["Outputs"] = []
        if failed:
            self._set_status(
                "ROLLBACK_FAILED", f"The following resource(s) failed to delete: [{', '.join(failed)}]. "
            )
        else:
            self._set_status("ROLLBACK_COMPLETE")

    async def _update(self) -> None:
        reason = await self._go_forward()
        if reason is None:
            self._set_status("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")
        elif self._stack.get("DisableRollback"):
            self._set_status("UPDATE_FAILED", reason)
        else:
            self._set_status("UPDATE_ROLLBACK_IN_PROGRESS", reason)

    async def _clean_up_after_update(self) -> None:
        await self._clean_up(policies=True)
        self._stack.pop("Previous", None)
        self._set_status("UPDATE_COMPLETE")

    async def _roll_back_update(self) -> None:
        """Back to what was: in place where it was changed in place, to the old one where it was replaced."""
        stack = self._stack
        if previous := stack.pop("Previous", None):
            stack["Current"] = previous
            self._records.save(stack)
        changed = {
            resource["LogicalResourceId"]: resource
            for resource in self._records.resources(stack["StackId"])
            if "Previous" in resource
        }
        needs = {
            name: frozenset(resource["Previous"].get("DependsOn", ())) & changed.keys()
            for name, resource in changed.items()
        }

        async def put_back(name: str) -> None:
            await self._steps.put_back(changed[name])

        failures = await in_order(needs, put_back)
        if failures:
            self._set_status(
                "UPDATE_ROLLBACK_FAILED",
                f"The following resource(s) failed to update: [{', '.join(sorted(failures))}]. ",
            )
            return
        stack["Outputs"] = stack["Current"].get("Outputs", stack.get("Outputs", []))
        self._set_status("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS")

    async def _clean_up_after_rollback(self) -> None:
        await self._clean_up(policies=False)
        self._set_status("UPDATE_ROLLBACK_COMPLETE")

    async def _delete(self) -> None:
        every = self._records.resources(self._stack["StackId"])
        kept = {it["LogicalResourceId"] for it in every if _is_retained(it.get("DeletionPolicy"))}
        failed = await self._take_away(every, retained=kept)
        if failed:
            self._set_status(
                "DELETE_FAILED", f"The following resource(s) failed to delete: [{', '.join(failed)}]. "
            )
        else:
            self._set_status("DELETE_COMPLETE")

    # Forward

    async def _go_forward(self) -> str | None:
        """Bring each resource to what the template says; gives what failed, in CloudFormation's words."""
        stack = self._stack
        try:
            evaluator = await self._evaluator()
            needs = dependencies(evaluator)
        except AWSError as error:
            return f"{error.message}. "

        async def bring(name: str) -> None:
            await self._bring_forward(name, evaluator, needs[name])

        failures = await in_order(needs, bring, failing=self._steps.failing)
        if not failures:
            return await self._give_out(evaluator)
        failed = [
            resource for name in failures if (resource := self._records.resource(stack["StackId"], name))
        ]
        creations = [it["LogicalResourceId"] for it in failed if it["ResourceStatus"] == "CREATE_FAILED"]
        updates = [it["LogicalResourceId"] for it in failed if it["ResourceStatus"] == "UPDATE_FAILED"]
        sentences = [
            f"The following resource(s) failed to {verb}: [{', '.join(names)}]. "
            for verb, names in (("create", creations), ("update", updates))
            if names
        ]
        return "".join(sentences) or "".join(f"{error}. " for error in failures.values())

    async def _bring_forward(self, name: str, evaluator: Evaluator, needs: frozenset[str]) -> None:
        declared = evaluator.template.resources[name]
        stored = self._records.resource(self._stack["StackId"], name)
        resource: Document = {
            **(stored or {"LogicalResourceId": name, "Timestamp": datetime.now(UTC)}),
            "ResourceType": declared["Type"],
        }
        try:
            wanted = evaluator.value(declared.get("Properties", {}))
        except AWSError as error:
            self._records.set_resource_status(
                self._stack, resource, "UPDATE_FAILED" if stored else "CREATE_FAILED", error.message
            )
            raise Failed(name) from error
        about = {
            "Properties": wanted,
            "DependsOn": sorted(needs),
            "DeletionPolicy": declared.get("DeletionPolicy"),
            "UpdateReplacePolicy": declared.get("UpdateReplacePolicy"),
            "Metadata": declared.get("Metadata"),
        }
        status = resource.get("ResourceStatus")
        if stored is None or status in ("DELETE_COMPLETE", "CREATE_IN_PROGRESS", "CREATE_FAILED"):
            await self._steps.create({**resource, **about}, again=status == "CREATE_IN_PROGRESS")
        elif status in ("UPDATE_IN_PROGRESS", "UPDATE_FAILED") and "Previous" in resource:
            # the server was killed here, or it failed before
            await self._steps.change({**resource, **about}, again=True)
        elif wanted == resource["Properties"]:
            self._records.save_resource(self._stack, {**resource, **about})
        else:
            previous = {member: resource[member] for member in KEPT if member in resource}
            await self._steps.change({**resource, **about, "Previous": previous})

    # Back and away

    async def _clean_up(self, *, policies: bool) -> None:
        """Take away what was replaced and what is no longer in the template."""
        evaluator = await self._evaluator()
        active = set(evaluator.active())
        every = self._records.resources(self._stack["StackId"])
        removed = [it for it in every if it["LogicalResourceId"] not in active]
        replaced = [it for it in every if it["LogicalResourceId"] in active and "Previous" in it]
        old = [
            {**it, **it["Previous"], "Stays": True}
            for it in replaced
            if it.get("Replaced") and it["Previous"].get("PhysicalResourceId")
        ]
        kept = {it["LogicalResourceId"] for it in old if _is_retained(it.get("UpdateReplacePolicy"))}
        kept |= {it["LogicalResourceId"] for it in removed if _is_retained(it.get("DeletionPolicy"))}
        await self._take_away([*old, *removed], retained=kept if policies else self._kept_when_new(removed))
        for resource in removed:
            self._records.delete_resource(self._stack, resource)
        for resource in replaced:
            settled = {name: value for name, value in resource.items() if name not in IN_UPDATE}
            self._records.save_resource(self._stack, settled)

    async def _take_away(self, resources: list[Document], *, retained: set[str]) -> list[str]:
        """Delete in reverse order of need, save those that are `retained`; gives those that could not be."""
        by_name = {
            it["LogicalResourceId"]: it
            for it in resources
            if it["ResourceStatus"] not in ("DELETE_COMPLETE", "DELETE_SKIPPED")
        }
        needs = {name: frozenset(it.get("DependsOn", ())) & by_name.keys() for name, it in by_name.items()}

        async def take_away(name: str) -> None:
            if name in retained and by_name[name].get("PhysicalResourceId"):
                self._steps.away(by_name[name], "DELETE_SKIPPED")
            else:
                await self._steps.delete(by_name[name])

        return sorted(await in_order(reversed_order(needs), take_away))

    def _kept_when_new(self, resources: list[Document]) -> set[str]:
        """Which of those that an operation has made stay where it is rolled back."""
        if self._stack.get("RetainExceptOnCreate"):
            return set()
        return {it["LogicalResourceId"] for it in resources if it.get("DeletionPolicy") == "Retain"}

    @contextmanager
    def _time_limit(self) -> Iterator[asyncio.Event]:
        """Nothing more is begun once the stack's TimeoutInMinutes are over; gives whether they are."""
        timed_out = asyncio.Event()

        def expire() -> None:
            timed_out.set()
            self._steps.failing.set()

        minutes = self._stack.get("TimeoutInMinutes")
        if minutes is None:
            yield timed_out
            return
        over = self._stack["CreationTime"] + timedelta(minutes=minutes)
        left = (over - datetime.now(UTC)).total_seconds()
        timer = asyncio.get_running_loop().call_later(max(left, 0), expire)
        try:
            yield timed_out
        finally:
            timer.cancel()

    # What all of them need

    async def _evaluator(self) -> Evaluator:
        definition = self._stack["Current"]
        template = parse(definition["TemplateBody"])
        if "Resolved" not in definition:
            definition["Resolved"] = await parameters.resolve(
                template, definition["Parameters"], self._runtime.aws
            )
            self._records.save(self._stack)
        return evaluator_of(self._records, self._stack)

    async def _give_out(self, evaluator: Evaluator) -> str | None:
        """Set the stack's outputs; gives what is wrong with them."""
        try:
            outputs: list[Document] = await references.resolve(evaluator.outputs(), self._runtime.aws)
        except AWSError as error:
            return f"{error.message}. "
        others = {
            export["Name"]: export["ExportingStackId"]
            for export in self._records.exports()
            if export["ExportingStackId"] != self._stack["StackId"]
        }
        for output in outputs:
            if (name := output.get("ExportName")) in others:
                stack_name = others[name].split("/")[1]
                return f"Export with name {name} is already exported by stack {stack_name}. "
        self._stack["Outputs"] = outputs
        self._stack["Imports"] = sorted(imports(evaluator))
        return None

    def _set_status(self, status: str, reason: str | None = None) -> None:
        self._records.set_status(self._stack, status, reason)


def acting(runtime: Runtime, stack: Document) -> Runtime:
    """The runtime as the stack's role sees it, else as who asked for the operation does."""
    definition = stack.get("Current", {})
    if role := definition.get("RoleARN"):
        return runtime.as_role(role, session="AWSCloudFormation")
    session = of_token(definition.get("Caller") or "")
    return runtime if session is None else runtime.under(session)


def _is_retained(policy: str | None) -> bool:
    return policy in ("Retain", "RetainExceptOnCreate")
