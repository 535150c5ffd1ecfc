"""Chat templates: where a checkpoint keeps the form of the conversations that it was trained on."""

from __future__ import annotations

from pathlib import Path

from extract.weights import WeightsMissingError, read_json

#: Where a template may be, in the order in which transformers' processors look.
TEMPLATE_FILES = ("chat_template.json", "chat_template.jinja", "tokenizer_config.json")


def chat_template(folder: Path) -> str:
    """Return the chat template of the checkpoint in `folder`.

    Raises
    ------
    WeightsMissingError
        If there is none: without it the network would see an input that it was not trained on.
    """
    for name in TEMPLATE_FILES:
        file = folder / name
        if not file.is_file():
            continue
        is_text = name.endswith(".jinja")
        template = file.read_text(encoding="utf-8") if is_text else read_json(file).get("chat_template")
        if template and isinstance(template, str):
            return template
    raise WeightsMissingError(
        f"Folder '{folder}' has no chat template; it would be in one of {', '.join(TEMPLATE_FILES)}. "
        "Copy the whole folder of the model."
    )
