"""Reports: one self-contained page per run, ablation or comparison of runs."""

from pipelines.report.ablation import write_ablation_report
from pipelines.report.comparison import write_comparison
from pipelines.report.page import Report, write_report

__all__ = ["Report", "write_ablation_report", "write_comparison", "write_report"]
