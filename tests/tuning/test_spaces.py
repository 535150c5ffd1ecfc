"""Every configuration that can be asked can be built, and the defaults are among them."""

import pytest
from optuna.trial import FixedTrial

import heads
from tuning import default_configuration, open_study, suggest
from tuning.spaces import SEARCHED_RESAMPLERS, default_parameters_in_study


@pytest.mark.parametrize("head", heads.HEADS)
def test_suggest_answers_the_default_when_its_parameters_are_fixed(head):
    """The default of each head lies inside its space, so that a study can try it first."""
    trial = FixedTrial(default_parameters_in_study(head))
    assert suggest(trial, heads.HEADS) == default_configuration(head)


@pytest.mark.parametrize("head", heads.HEADS)
def test_default_configuration_is_the_head_as_it_comes(head):
    """Nothing resampled, and the parameters of `heads.default_parameters`."""
    configuration = default_configuration(head)
    assert configuration.resampler == "none"
    assert configuration.parameters == heads.default_parameters(head)


def test_suggest_asks_only_what_pipelines_accept():
    """Sixty configurations all build; all heads and resamplers occur; never weights and resampling both."""
    study = open_study(random_state=0)
    found = []
    for _ in range(60):
        trial = study.ask()
        found.append(suggest(trial, heads.HEADS))
        heads.make_pipeline(
            found[-1].head, resampler=found[-1].resampler, parameters=found[-1].parameters, random_state=0
        )
        assert all(name == "head" or name.startswith(f"{found[-1].head}.") for name in trial.params)
        study.tell(trial, 0.5)
    assert {configuration.head for configuration in found} == set(heads.HEADS)
    assert {configuration.resampler for configuration in found} == set(SEARCHED_RESAMPLERS)
    assert set(SEARCHED_RESAMPLERS) <= set(heads.RESAMPLERS)
    for configuration in found:
        assert configuration.resampler == "none" or configuration.parameters["class_weight"] is None


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], r"'heads' is \[\], not a list of one or more names"),
        ("mlp", "'heads' is 'mlp', not a list"),
        (
            ["mlp", "forest", "mlp"],
            r"unknown heads \['forest'\]; heads given twice \['mlp'\]\. Allowed",
        ),
    ],
)
def test_suggest_refuses_wrong_heads(names, message):
    """All faults of a list of heads come in one message."""
    with pytest.raises(ValueError, match=message):
        suggest(FixedTrial({}), names)
