"""What a preset says of a system of a report. The table of them is ``heads.reported_systems``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ReportedBackbone:
    """Where a report's features came from.

    Attributes
    ----------
    name : str
        Name of the backbone, or how its name begins when the report does not say which; "" is any.
    width : int or None
        Columns; None when the report does not say.
    """

    name: str
    width: int | None = None


@dataclass(frozen=True)
class Preset:
    """A system of a report, as far as a head on frozen features can be that system.

    Attributes
    ----------
    name : str
    report : str
        Number of the report.
    system : str
        What was built, in a few words.
    backbones : mapping of str to ReportedBackbone
        Modality (text, image, joint) to what embedded it. A preset works on other blocks as well.
    parameters : mapping of str to object
        Constructor arguments of the head; the others keep their defaults.
    resampler : str
        One of ``heads.RESAMPLERS``.
    unreported : tuple of str
        Arguments whose value is ours, because the report gives none: defaults, unless in `parameters`.
    not_reproduced : str
        What the report did that a head on frozen features does not.
    reported : mapping of str to float
        Its figures by score, on its own split; empty when it gives none for this head.
    head : str
        One of ``heads.HEADS``.
    """

    name: str
    report: str
    system: str
    backbones: Mapping[str, ReportedBackbone]
    parameters: Mapping[str, object]
    resampler: str = "none"
    unreported: tuple[str, ...] = ()
    not_reproduced: str = ""
    reported: Mapping[str, float] = field(default_factory=dict)
    head: str = "mlp"

    def expanded(self) -> dict[str, object]:
        """Return every constructor argument that may be tuned, as ``make_pipeline`` takes them."""
        from heads.presets import default_parameters

        return {**default_parameters(self.head), **self.parameters}
