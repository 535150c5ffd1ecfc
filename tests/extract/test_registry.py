"""The registry: names to backbones, and what a wrong name is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from extract.backbones import Backbone
from extract.cards import Card
from extract.registry import backbone_names, find_card, open_backbone, register_backbone, register_family
from tests.kit.tiny_checkpoints import make_tiny_bert, make_tiny_clip


def test_registry_loads_no_network_library() -> None:
    """Listing names and reading a card imports neither torch nor transformers nor numpy."""
    code = (
        "import sys; from extract.registry import backbone_names, find_card, open_backbone; "
        "[(find_card(n), open_backbone(n)) for n in backbone_names()]; "
        "sys.exit(','.join({'torch', 'transformers', 'torchvision', 'numpy', 'PIL'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, "")


def test_backbone_names_has_the_backbones_of_this_issue() -> None:
    """The promised names are registered, sorted."""
    promised = {
        "minilm-l6", "bert-base-uncased", "bert-base-chinese", "efficientnet-lite0", "resnet50", "resnet18",
        "clip-vit-b32", "clip-vit-b16", "clip-vit-l14", "clip-vit-l14-336",
    }  # fmt: skip
    assert promised <= set(backbone_names())
    assert list(backbone_names()) == sorted(backbone_names())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "clip",
            r"ambiguous: it could be 'clip-vit-b16', 'clip-vit-b32', 'clip-vit-l14', 'clip-vit-l14-336'",
        ),
        ("bert", r"ambiguous: it could be 'bert-base-cased', 'bert-base-chinese', 'bert-base-multi"),
        ("resnet-50", r"not known\. Near matches: 'resnet50'.*hf:ORG/NAME.*folder of weights"),
        ("CLIP-ViT-L14", r"not known\. Near matches: 'clip-vit-l14'|ambiguous: it could be 'clip-vit-l14'"),
        ("minilm", r"ambiguous: it could be 'minilm-l12', 'minilm-l6'\."),
        ("zzz", r"not known\. Known names: .*bert-base-chinese,.*Other valid spellings"),
        ("", r"Backbone '' is not known"),
        ("timm:vit_small", r"'timm:vit_small' is not known to timm .*Near matches: "),
        ("./no/such/folder", r"looks like a path, but there is no such folder"),
        ("/no/such", r"looks like a path, but there is no such folder"),
        ("openai/clip-vit-large-patch14", r"write 'hf:openai/clip-vit-large-patch14'"),
        ("hf:clip", r"after 'hf:' comes ORG/NAME"),
        ("hf:../../etc", r"after 'hf:' comes ORG/NAME"),
    ],
)
def test_open_backbone_refuses_what_it_would_have_to_guess(name: str, message: str) -> None:
    """An unknown, ambiguous or path-like name is refused, and the message shows what to write."""
    with pytest.raises(ValueError, match=message):
        open_backbone(name)
    with pytest.raises(ValueError, match=message):
        find_card(name)


@pytest.mark.parametrize("name", ["c", "clipvit", "resnet", "a"])
def test_open_backbone_names_at_most_five_near_matches(name: str) -> None:
    """A refusal never lists more than five candidates, unless it lists every known name."""
    with pytest.raises(ValueError, match=r"not known|ambiguous") as caught:
        open_backbone(name)
    if "Known names" not in str(caught.value):
        assert str(caught.value).count("'") // 2 - 1 <= 5


def test_open_backbone_takes_a_folder_as_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder is opened by its path, however it is written, and is called by its own name."""
    folder = make_tiny_bert(tmp_path / "my bert")
    monkeypatch.chdir(tmp_path)
    absolute, relative = open_backbone(str(folder)), open_backbone("./my bert")
    assert absolute.card == relative.card
    assert absolute.card.name == "my bert" and absolute.file_name == "my_bert"
    assert absolute.weights_sha256() == relative.weights_sha256()
    assert absolute.revision is None


def test_open_backbone_takes_a_repository_with_local_weights(tmp_path: Path) -> None:
    """An hf: name with a weights folder keeps its name, and its file name has no path in it."""
    backbone = open_backbone("hf:org/tiny.clip", weights=make_tiny_clip(tmp_path / "w"))
    assert backbone.card.name == backbone.card.source == "hf:org/tiny.clip"
    assert backbone.file_name == "hf--org--tiny.clip"


def test_open_backbone_refuses_weights_for_a_folder_name(tmp_path: Path) -> None:
    """A folder is its own weights; a second folder would contradict it."""
    folder = make_tiny_bert(tmp_path / "bert")
    with pytest.raises(ValueError, match="is a folder of weights already; leave out --weights"):
        open_backbone(str(folder), weights=folder)


def test_open_backbone_refuses_an_unknown_family(tmp_path: Path) -> None:
    """A config of another family is refused, and the supported families are named."""
    (tmp_path / "config.json").write_text('{"model_type": "whisper"}')
    with pytest.raises(
        ValueError, match=r"family 'whisper', which is not supported; supported are .*bert, .*clip"
    ):
        open_backbone(str(tmp_path))


def test_open_backbone_refuses_an_empty_folder(tmp_path: Path) -> None:
    """A folder without weights is missing weights, and the message says what it holds."""
    with pytest.raises(FileNotFoundError, match=r"holds no weights: .*; it is empty"):
        open_backbone(str(tmp_path))


def test_register_backbone_refuses_a_name_twice() -> None:
    """A second backbone cannot take a registered name, and the first stays."""
    card = find_card("resnet18")

    def opener(card: Card, source: object) -> Backbone:
        raise AssertionError("never opened")

    with pytest.raises(ValueError, match="'resnet18' is registered twice"):
        register_backbone(card)(opener)
    with pytest.raises(ValueError, match="Family 'bert' is registered twice"):
        register_family("bert")(opener)
    assert open_backbone("resnet18").card is card
