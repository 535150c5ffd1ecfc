"""``embedonce predict`` on stores of many rows: time and memory of the whole command by number of rows.

    python benchmarks/predict_at_scale.py [--rows 10000 100000 1000000] [--heads logreg mlp] [--stores 1]
                                          [--shuffled] [--folder FOLDER]

Trains each head on 2,000 rows, writes synthetic stores of float16 x 768 (1.5 GB each at a million rows) as
``train_at_scale.py`` does, and answers for every row of them in a process of its own. With ``--shuffled`` the
second store holds the samples in random order. Printed are wall and processor seconds of the command, those
of the part after the model and the stores were opened and joined, and the largest resident set.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does

from peak import peak_bytes
from train_at_scale import MIB, MODALITIES, WIDTH, in_child, write


def main() -> None:
    """Write the stores and predict every size with every head, or one of them in a child process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--heads", nargs="+", default=["logreg", "mlp"])
    parser.add_argument("--stores", type=int, default=1, choices=[1, 2], help="one modality or two")
    parser.add_argument("--shuffled", action="store_true", help="two stores, the second in another order")
    parser.add_argument("--folder", type=Path, help="where the stores go, and stay (else a temporary one)")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        run, *stores = arguments.child
        sys.stdout.write(json.dumps(predict(Path(run), stores)))
        return
    modalities = MODALITIES[: 2 if arguments.shuffled else arguments.stores]
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        few = [write(folder / f"{modality}-2000.h5", modality, 2000) for modality in modalities]
        for rows in arguments.rows:
            stores = [write(folder / f"{modalities[0]}-{rows}.h5", modalities[0], rows)]
            for modality in modalities[1:]:
                name = f"{modality}-{rows}{'-shuffled' if arguments.shuffled else ''}.h5"
                stores.append(write(folder / name, modality, rows, shuffled=arguments.shuffled))
            for head in arguments.heads:
                run = train(Path(temporary), head, few)
                found = in_child(__file__, "--child", str(run), *map(str, stores))
                say(head, rows, WIDTH * len(stores), found)


def train(folder: Path, head: str, stores: list[Path]) -> Path:
    """Train a head on a few rows; a run that is there is taken."""
    from pipelines.tune import train as run_train
    from pipelines.tune_settings import TuneSettings

    settings = TuneSettings(
        features=tuple(map(str, stores)),
        heads=(head,),
        trials=1,
        folds=2,
        out=folder / "runs",
        study=head,
        duplicates="exact",
        parameters={"max_epochs": 2, "patience": 2} if head == "mlp" else {},
    )
    return run_train(settings).path


def predict(run: Path, stores: list[str]) -> dict[str, float]:
    """Run ``embedonce predict`` and note when the first rows were asked for."""
    import pipelines.predict as command

    asked: list[float] = []
    plain = command._answer

    def noted(*arguments):  # type: ignore[no-untyped-def] # the model and the rows
        asked.append(time.process_time())
        return plain(*arguments)

    command._answer = noted
    settings = command.PredictSettings(run=run, features=tuple(stores), out=run / "answers.csv")
    began, used = time.perf_counter(), time.process_time()
    predictions = command.predict(settings)
    answered = time.process_time()
    command.print_predictions(predictions, settings, seconds=time.perf_counter() - began, as_json=False)
    wall, cpu = time.perf_counter() - began, time.process_time() - used
    return {"wall": wall, "cpu": cpu, "answering": answered - asked[0], "peak_mb": peak_bytes() / MIB}


def say(head: str, rows: int, width: int, found: dict[str, float]) -> None:
    """Print one line at once."""
    sys.stdout.write(
        f"{head} {rows:,} x {width}: {found['wall']:.1f} s wall, {found['cpu']:.1f} s CPU, of it "
        f"{found['answering']:.1f} s reading and answering, {found['peak_mb']:,.0f} MB\n"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    main()
