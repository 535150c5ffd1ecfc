"""``embedonce ablate``."""

from __future__ import annotations

from argparse import Namespace

from heads.names import FUSIONS, RESAMPLERS
from pipelines.verbs import types
from pipelines.verbs.replay import replayed
from pipelines.verbs.shared import Parser, features_option, json_option, run_options, weights_option

HELP = "compare features, heads and fusions on the same folds"


def add_options(parser: Parser) -> None:
    """Options of ``ablate``."""
    features_option(parser)
    parser.add_argument(
        "--swap",
        action="append",
        default=[],
        metavar="[NAME=]FILE[:SPACE],...",
        help="a set of stores to compare with the others, such as bert=bert.h5,resnet50.h5; repeat "
        "for several",
    )
    parser.add_argument(
        "--heads",
        type=types.words,
        default=("logreg",),
        metavar="LIST",
        help="heads to compare (default: logreg)",
    )
    parser.add_argument(
        "--modalities",
        type=types.words,
        default=(),
        metavar="LIST",
        help="text, image, joint, both, all (default: each alone and all together)",
    )
    parser.add_argument(
        "--fusions",
        type=types.words,
        default=(),
        metavar="LIST",
        help=f"ways of the mlp to combine blocks: {', '.join(FUSIONS)} (default: its own)",
    )
    parser.add_argument(
        "--resamplers",
        type=types.words,
        default=("none",),
        metavar="LIST",
        help=f"{', '.join(RESAMPLERS)} (default: none)",
    )
    parser.add_argument(
        "--use-views",
        type=types.view_counts,
        default=(),
        metavar="none,all,N",
        help="numbers of stored views to train on (default: none, and one row with all of them)",
    )
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help="the table of a report, with its figures, on stores of its backbones ('list' shows them)",
    )
    parser.add_argument(
        "--reference",
        metavar="ROW",
        help="name of the row that the others are compared with (default: the richest)",
    )
    parser.add_argument(
        "--shuffles",
        type=types.whole,
        default=3,
        metavar="N",
        help="seeds per kind of shuffled partner in the modality ledger (default: %(default)s)",
    )
    parser.add_argument(
        "--leaky",
        action="store_true",
        help="also show what the reference row would seem to score with the leaks of the reports "
        "(validation rows in training, SMOTE before the split), beside its honest score",
    )
    parser.add_argument(
        "--prompts",
        action="append",
        default=[],
        metavar="TEXT",
        help="adds zero-shot rows on stores with both towers of CLIP or its kin: a description with {class} "
        "where the class goes, such as 'a photo of {class}'; repeat for several, which are averaged",
    )
    weights_option(parser)
    run_options(parser)
    json_option(parser)


def run(options: Namespace, words: list[str]) -> None:
    """Run ``ablate``."""
    from pipelines import ablate
    from pipelines.ablation import paper_rows, printing

    if options.preset == paper_rows.LIST:
        paper_rows.print_tables(as_json=options.json)
        return
    values = replayed(options, words)
    settings = ablate.AblateSettings(
        features=tuple(values.features),
        heads=tuple(values.heads),
        metric=values.metric,
        folds=values.folds,
        duplicates=values.duplicates,
        seed=values.seed,
        out=values.out,
        swap=tuple(values.swap),
        modalities=tuple(values.modalities),
        fusions=tuple(values.fusions),
        resamplers=tuple(values.resamplers),
        use_views=tuple(values.use_views),
        preset=values.preset,
        reference=values.reference,
        shuffles=values.shuffles,
        leaky=values.leaky,
        prompts=tuple(values.prompts),
        weights=dict(values.weights),
    )
    printing.print_ablation(ablate.ablate(settings), as_json=options.json)
