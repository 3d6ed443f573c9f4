"""CodeBuild: report groups, their reports and test cases."""

from datetime import UTC, datetime
from typing import Any

from stagegate.local.build_pages import PAGE, ordered, page, public
from stagegate.local.build_reports import NOT_EXPORTED, REPORT, REPORT_GROUP, new_group
from stagegate.local.service import AWSError, Service

Document = dict[str, Any]


class Reports(Service):
    def create_report_group(
        self, *, name: str, type: str, exportConfig: Document, tags: list[Document] | None = None
    ) -> Document:
        arn = self.runtime.arn("codebuild", f"report-group/{name}")
        if self.runtime.store.get(REPORT_GROUP, arn) is not None:
            raise AWSError("ResourceAlreadyExistsException", f"Report group already exists: {arn}")
        if type != "TEST":
            raise AWSError(
                "InvalidInputException", f"type {type} is not supported by the local runtime; TEST is"
            )
        _check_export(exportConfig)
        group = new_group(arn) | {"tags": tags or []}
        self.runtime.store.put(REPORT_GROUP, arn, group)
        return {"reportGroup": group}

    def update_report_group(
        self, *, arn: str, exportConfig: Document | None = None, tags: list[Document] | None = None
    ) -> Document:
        group = self._group(arn) | {"lastModified": datetime.now(UTC)}
        if exportConfig is not None:
            _check_export(exportConfig)
        if tags is not None:
            group["tags"] = tags
        self.runtime.store.put(REPORT_GROUP, arn, group)
        return {"reportGroup": group}

    def delete_report_group(self, *, arn: str, deleteReports: bool = False) -> Document:
        reports = self._reports(arn)
        if reports and not deleteReports:
            raise AWSError("InvalidInputException", f"Report group {arn} has reports; delete them first")
        for report in reports:
            self.runtime.store.delete(REPORT, report["arn"])
        self.runtime.store.delete(REPORT_GROUP, arn)
        return {}

    def delete_report(self, *, arn: str) -> Document:
        self.runtime.store.delete(REPORT, arn)
        return {}

    def batch_get_report_groups(self, *, reportGroupArns: list[str]) -> Document:
        found = {arn: self.runtime.store.get(REPORT_GROUP, arn) for arn in reportGroupArns}
        return {
            "reportGroups": [group for group in found.values() if group],
            "reportGroupsNotFound": [arn for arn, group in found.items() if not group],
        }

    def list_report_groups(
        self,
        *,
        sortOrder: str = "DESCENDING",
        sortBy: str = "NAME",
        nextToken: str | None = None,
        maxResults: int = PAGE,
    ) -> Document:
        member = {"NAME": "name", "CREATED_TIME": "created", "LAST_MODIFIED_TIME": "lastModified"}[sortBy]
        groups = sorted(self.runtime.store.list(REPORT_GROUP), key=lambda group: group[member])
        return page(
            "reportGroups", ordered([group["arn"] for group in groups], sortOrder), nextToken, maxResults
        )

    def batch_get_reports(self, *, reportArns: list[str]) -> Document:
        found = {arn: self.runtime.store.get(REPORT, arn) for arn in reportArns}
        return {
            "reports": [public(report) for report in found.values() if report],
            "reportsNotFound": [arn for arn, report in found.items() if not report],
        }

    def list_reports(
        self,
        *,
        sortOrder: str = "DESCENDING",
        nextToken: str | None = None,
        maxResults: int = PAGE,
        filter: Document | None = None,
    ) -> Document:
        return self._page(None, filter, sortOrder, nextToken, maxResults)

    def list_reports_for_report_group(
        self,
        *,
        reportGroupArn: str,
        sortOrder: str = "DESCENDING",
        nextToken: str | None = None,
        maxResults: int = PAGE,
        filter: Document | None = None,
    ) -> Document:
        return self._page(reportGroupArn, filter, sortOrder, nextToken, maxResults)

    def describe_test_cases(
        self,
        *,
        reportArn: str,
        nextToken: str | None = None,
        maxResults: int = PAGE,
        filter: Document | None = None,
    ) -> Document:
        report = self.runtime.store.get(REPORT, reportArn)
        if report is None:
            raise AWSError("ResourceNotFoundException", f"Report {reportArn} not found")
        wanted = filter or {}
        cases = [
            case
            for case in report["_cases"]
            if wanted.get("status", case["status"]) == case["status"]
            and wanted.get("keyword", "") in f"{case['prefix']} {case['name']}"
        ]
        return page("testCases", cases, nextToken, maxResults)

    def _page(
        self, group: str | None, filter: Document | None, order: str, token: str | None, size: int
    ) -> Document:
        arns = [
            report["arn"]
            for report in sorted(self._reports(group), key=lambda report: report["created"])
            if (filter or {}).get("status", report["status"]) == report["status"]
        ]
        return page("reports", ordered(arns, order), token, size)

    def _reports(self, group: str | None) -> list[Document]:
        return [
            report for report in self.runtime.store.list(REPORT) if group in (None, report["reportGroupArn"])
        ]

    def _group(self, arn: str) -> Document:
        group = self.runtime.store.get(REPORT_GROUP, arn)
        if group is None:
            raise AWSError("ResourceNotFoundException", f"Report group {arn} not found")
        return group


def _check_export(config: Document) -> None:
    if config != NOT_EXPORTED:
        raise AWSError(
            "InvalidInputException", "exportConfig: only NO_EXPORT is supported by the local runtime"
        )
