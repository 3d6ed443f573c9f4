"""Reads definitions and templates, and says what will hurt on AWS.

It calls nothing: botocore's models on disk say what the APIs take and give.
"""

from stagegate.doctor.findings import Finding, Rule
from stagegate.doctor.project import Project, default_files, project_of, read_project
from stagegate.doctor.rules import RULES

__all__ = ["RULES", "Finding", "Project", "Rule", "default_files", "examine", "project_of", "read_project"]


def examine(project: Project) -> list[Finding]:
    """All that is found, by file; in a file as the rules come."""
    found = [
        Finding(
            rule=rule.code,
            file=fault.file,
            where=fault.where,
            wrong=fault.wrong,
            costs=rule.costs,
            remedy=rule.remedy,
        )
        for rule in RULES
        for fault in rule.check(project)
    ]
    return sorted(found, key=lambda finding: finding.file)
