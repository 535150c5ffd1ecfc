"""Command lines that ask for what does not exist or does not fit together."""

from __future__ import annotations

#: Words that follow a verb; {store}, {run}, {data} and {weights} stand for good ones.
OPTIONS: tuple[tuple[str, ...], ...] = tuple(
    tuple(line.split())
    for line in """
    nonsense
    --nonsense
    extract
    extract --backbone
    extract --backbone nonsense --data {data}
    extract --backbone clip --data {data}
    extract --backbone hf:nonsense --data {data}
    extract --backbone hf:../../etc/passwd --data {data}
    extract --backbone timm:nonsense --data {data}
    extract --backbone /etc --data {data}
    extract --backbone /etc/passwd --data {data}
    extract --backbone {weights} --data {data} --precision fp8
    extract --backbone {weights} --data {data} --batch-size 0
    extract --backbone {weights} --data {data} --batch-size -1
    extract --backbone {weights} --data {data} --views -1
    extract --backbone {weights} --data {data} --views x
    extract --backbone {weights} --data {data} --max-bad 2
    extract --backbone {weights} --data {data} --max-bad nan
    extract --backbone {weights} --data {data} --limit 0
    extract --backbone {weights} --data {data} --device tpu
    extract --backbone {weights} --data {data} --device cuda:99
    extract --backbone {weights} --data {data} --device ,
    extract --backbone {weights} --data {data} --max-memory 1
    extract --backbone {weights} --data {data} --max-memory lots
    extract --backbone {weights} --data {data} --modality sound
    extract --backbone {weights} --data {data} --modality image
    extract --backbone {weights} --data {data} --readout nonsense
    extract --backbone {weights} --data {data} --readout layer:99
    extract --backbone {weights} --data {data} --readout layer:-1
    extract --backbone {weights} --data {data} --readout ,
    extract --backbone {weights} --data {data} --encodings klingon
    extract --backbone {weights} --data {data} --encodings hex
    extract --backbone {weights} --data {data} --columns id
    extract --backbone {weights} --data {data} --weights gone
    extract --backbone {weights} --backbone {weights} --data {data}
    extract --backbone {weights} --data {data} --out {store}
    extract --backbone {weights} --data {data} --out /dev/null
    extract --backbone {weights} --data {data} --out /proc/x
    tune --features {store} --trials 0
    tune --features {store} --trials -5
    tune --features {store} --trials x
    tune --features {store} --heads forest
    tune --features {store} --heads ,
    tune --features {store} --metric nonsense
    tune --features {store} --folds 1
    tune --features {store} --folds 0
    tune --features {store} --folds 1000
    tune --features {store} --seed -1
    tune --features {store} --seed 99999999999999999999
    tune --features {store} --timeout -1 --trials 1
    tune --features {store}:nonsense --trials 1
    tune --features {store}: --trials 1
    tune --features {store} --features {store} --trials 1 --heads logreg --folds 2
    tune --features gone.h5 --trials 1
    tune --features {data} --trials 1
    tune --features {store} --study ../../x --trials 1 --heads logreg --folds 2
    tune --features {store} --study . --trials 1 --heads logreg --folds 2
    tune --features {store} --study / --trials 1 --heads logreg --folds 2
    tune --features {store} --storage nonsense://x --trials 1 --heads logreg --folds 2
    tune --features {store} --storage sqlite:////proc/x/y.db --trials 1 --heads logreg --folds 2
    tune --features {store} --out {store} --trials 1 --heads logreg --folds 2
    tune --features {store} --space gone.toml --trials 1
    tune --features {store} --use-views -1 --trials 1
    tune --config gone.json
    tune --config {store}
    tune --config {data}
    tune --config {run}/metrics.json
    tune --config {run}/config.json --trials 1 --heads ,
    train --features {store} --head forest
    train --features {store} --preset nonsense
    train --features {store} --resampler nonsense
    train --features {store} --set C
    train --features {store} --set nonsense=1
    train --features {store} --set C=-1
    train --features {store} --set C=NaN
    train --features {store} --set C=x
    train --features {store} --set C=[[]]
    train --features {store} --head mlp --set hidden=99999999999
    train --features {store} --folds 41
    ablate --features {store} --modalities sound
    ablate --features {store} --reference nonsense
    ablate --features {store} --shuffles -1
    ablate --swap a
    ablate --swap a={store} --swap a={store}
    ablate --features {store} --grid nonsense
    stability --run {run} --seeds 0
    stability --run {run} --seeds 1 --splits 0
    stability --run gone
    predict
    predict --run gone
    predict --run {store}
    predict --run {run} --features gone.h5
    predict --run {run} --features {store} --data {data}
    predict --run {run} --text x --features {store}
    predict --run {run} --image gone.png
    predict --run {run} --data gone
    predict --run {run} --features {store} --out /dev/full/x
    predict --run {run} --features {store} --out gone/deep/x.csv
    predict --run {run} --features {store} --weights x
    report
    report --run gone
    report --run {store}
    report --run {run} --out {data}
    report --run {run} --data gone
    report --run {run} --out gone/deep/x.html
    report --compare {run} gone
    report --compare {run}
    report --compare {run} {run} --out x.html
    demo --trials 0
    demo --out {store}
    import
    import --table gone.csv --out x.h5 --text gone.npy
    import --table {store} --out x.h5 --text {store}
    inspect
    inspect gone.h5
    inspect {data}
    inspect {store} --data {data}
    inspect --data gone
    inspect --data {data} --backbone nonsense
    inspect --data {data} --clean nonsense
    verify
    verify gone.h5
    verify {data}
    verify {run}/config.json
    backbones nonsense
    doctor --data gone --out {store}
    doctor --backbone nonsense --runs {store}
    doctor --views -1
    """.strip().splitlines()
)
