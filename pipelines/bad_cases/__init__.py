"""Bad cases: what goes wrong out of fold, which labels look wrong, and for what kind of sample."""

from pipelines.bad_cases.finding import BadCases, find_bad_cases
from pipelines.bad_cases.printing import print_bad_cases, print_case, tell_notes
from pipelines.bad_cases.writing import write_bad_cases

__all__ = ["BadCases", "find_bad_cases", "print_bad_cases", "print_case", "tell_notes", "write_bad_cases"]
