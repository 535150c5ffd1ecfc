"""``embedonce audit``: what in a data set, its stores or a run could make a score too good."""

from __future__ import annotations

from pipelines.auditing.command import Audit, AuditSettings, audit, print_audit
from pipelines.auditing.findings import Finding

__all__ = ["Audit", "AuditSettings", "Finding", "audit", "print_audit"]
