"""Reports: one self-contained page per run, made from the files of the run folder alone."""

from pipelines.report.page import write_ablation_report, write_report

__all__ = ["write_ablation_report", "write_report"]
