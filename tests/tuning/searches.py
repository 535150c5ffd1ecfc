"""Small searches, what is compared of them, and a memory that counts."""

from tuning import grid_configurations, make_folds, parse_space, search
from tuning.spaces import build_spaces


class InMemory:
    """A memory that forgets with the process, and counts what it answered."""

    def __init__(self):
        self.kept, self.recalled = {}, 0

    def get(self, key):
        """Look up."""
        self.recalled += key in self.kept
        return self.kept.get(key)

    def put(self, trial):
        """Store."""
        assert trial.key not in self.kept
        self.kept[trial.key] = trial


def run(data, *, n_trials=8, names=("logreg",), n_folds=2, **options):
    """A small search with the fastest head."""
    X, y = data
    return search(
        X,
        y,
        heads=names,
        n_trials=n_trials,
        folds=make_folds(y, n_folds=n_folds),
        n_classes=3,
        **options,
    )


def facts(result):
    """Everything about a result except how long it took."""
    return (
        [
            (t.number, t.configuration, t.asked, t.rung, t.score, t.fold_scores, t.oof.tobytes())
            for t in (*result.trials, *result.dropped)
        ],
        result.failures,
        result.best,
        result.default,
    )


def stop_after(n):
    """Make a callback that interrupts at the n-th scored trial, as Ctrl-C would."""
    calls = []

    def on_trial(trial, best):
        calls.append(trial)
        if len(calls) == n:
            raise KeyboardInterrupt("stopped by the test")

    return on_trial


NETWORKS = """
[mlp]
hidden = [4, 6, 8]
n_hidden = [1, 2]
max_epochs = 6
pca = 'none'
only = true
"""


def networks():
    """A grid of six networks of six shapes, and the space that it is made of."""
    space = build_spaces(["mlp"], n_features=12, n_rows=150, declared=parse_space(NETWORKS))
    return {"names": ("mlp",), "space": space, "grid": grid_configurations(space, limit=6)}
