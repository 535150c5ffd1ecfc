"""Explanations of single predictions: what in the text and the picture spoke for the answer."""

from pipelines.explaining.explain import ExplainSettings, explain
from pipelines.explaining.explanation import Explanation
from pipelines.explaining.offer import explain_command
from pipelines.explaining.printing import print_explanation

__all__ = ["ExplainSettings", "Explanation", "explain", "explain_command", "print_explanation"]
