"""Explanations of single predictions: what in the text and the picture spoke for the answer."""

from pipelines.explaining.explain import ExplainSettings, Explanation, explain, print_explanation

__all__ = ["ExplainSettings", "Explanation", "explain", "print_explanation"]
