"""Chats: a text, an image or both as one user message in a checkpoint's own chat template.

The template is rendered once, around a mark; what comes before and after the mark never changes. A text is
tokenised on its own, with control tokens that it happens to contain read as plain characters: a tweet that
quotes "<|im_end|>" cannot close the message, and one that quotes "<|image_pad|>" cannot claim an image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from extract.backbones.contract import Tokens

#: Stands for the text while the template is rendered.
_MARK = "embedonce"


def messages(modality: str, text: str, instruction: str | None) -> list[dict[str, Any]]:
    """Return the conversation that stands for one input.

    Parameters
    ----------
    modality : {"text", "image", "joint"}
        What the user's message holds; the image comes first.
    text : str
    instruction : str or None
        The system message; None leaves it to the template.
    """
    content: list[dict[str, str]] = []
    if modality != "text":
        content.append({"type": "image"})
    if modality != "image":
        content.append({"type": "text", "text": text})
    user = {"role": "user", "content": content}
    if instruction is None:
        return [user]
    return [{"role": "system", "content": [{"type": "text", "text": instruction}]}, user]


@dataclass(frozen=True)
class ChatFrame:
    """A rendered template, cut at the text.

    Attributes
    ----------
    head : ndarray of int64
        Token ids before the text, up to and with the last control token.
    lead : str
        Characters between that token and the text; they are tokenised together with it.
    tail : ndarray of int64
        Token ids after the text: the end of the message and the beginning of the answer.
    image_at : int or None
        Position in `head` of the token that stands for the image.
    """

    head: np.ndarray
    lead: str
    tail: np.ndarray
    image_at: int | None


class ChatTokeniser:
    """Token ids of inputs of one modality.

    Parameters
    ----------
    tokenizer : transformers tokenizer
        A fast one.
    template : str
    modality : {"text", "image", "joint"}
    instruction : str or None
    image_id : int
        Token that stands for an image.
    token_limit : int
        Most tokens of an input, visual tokens not counted.

    Raises
    ------
    ValueError
        If the template does not close a text with a control token, shows no place for the image, or leaves no
        room for a text under the limit.
    """

    def __init__(
        self,
        tokenizer: Any,
        template: str,
        *,
        modality: str,
        instruction: str | None,
        image_id: int,
        token_limit: int,
    ) -> None:
        self._plain = _copy_without_control_tokens(tokenizer)
        self.frame = _frame(tokenizer, template, modality, instruction, image_id)
        self._limit = token_limit
        fixed = len(self.frame.head) + len(self.frame.tail) + len(self._encode(""))
        if fixed >= token_limit:
            raise ValueError(
                f"Chat template takes {fixed} of {token_limit} tokens and leaves no room for a text. Use the "
                "checkpoint's own template."
            )

    def tokens(self, text: str, visual_tokens: int = 0) -> Tokens:
        """Return the ids of one input.

        A text that is too long loses its end, never the template's closing.

        Parameters
        ----------
        text : str
            "" if the modality is "image".
        visual_tokens : int
            How many tokens the image becomes.
        """
        body, frame = self._encode(text), self.frame
        room = self._limit - len(frame.head) - len(frame.tail)
        head = frame.head
        if frame.image_at is not None:
            head = np.insert(head, frame.image_at, np.full(visual_tokens - 1, head[frame.image_at]))
        fixed = len(head) + len(frame.tail)
        ids = np.concatenate([head, body[:room], frame.tail])
        return Tokens(ids, fixed + len(body), visual_tokens)

    def _encode(self, text: str) -> np.ndarray:
        encoding = self._plain.encode(self.frame.lead + text, add_special_tokens=False)
        return np.array(encoding.ids, dtype=np.int64)


def _frame(tokenizer: Any, template: str, modality: str, instruction: str | None, image_id: int) -> ChatFrame:
    rendered = tokenizer.apply_chat_template(
        messages(modality, _MARK, instruction),
        chat_template=template,
        add_generation_prompt=True,
        tokenize=False,
    )
    before, mark, after = rendered.partition(_MARK)
    if modality == "image":
        before, after = rendered, ""
    controls = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    if modality != "image" and (not mark or not after.startswith(tuple(controls))):
        raise ValueError(
            f"Chat template does not put the text before a control token (it gives {rendered!r}), so that "
            "the text cannot be tokenised on its own. Use the checkpoint's own template."
        )
    cut = max((before.rfind(token) + len(token) for token in controls if token in before), default=0)
    # An image's template has no text; all of it is head, and what closes it stays behind the last control.
    head_text, lead = (before, "") if modality == "image" else (before[:cut], before[cut:])
    # Tokens that the tokenizer itself puts behind a text stand behind the whole chat.
    head = _ids(tokenizer, head_text, with_closing=modality == "image")
    tail = _ids(tokenizer, after, with_closing=True) if modality != "image" else head[:0]
    places = np.flatnonzero(head == image_id)
    if len(places) != (modality != "text"):
        raise ValueError(
            f"Chat template shows {len(places)} places for an image where {int(modality != 'text')} is "
            f"expected (it gives {rendered!r}). Use the checkpoint's own template."
        )
    return ChatFrame(head, lead, tail, int(places[0]) if len(places) else None)


def _ids(tokenizer: Any, text: str, *, with_closing: bool) -> np.ndarray:
    encoding = tokenizer.backend_tokenizer.encode(text, add_special_tokens=with_closing)
    return np.array(encoding.ids, dtype=np.int64)


def _copy_without_control_tokens(tokenizer: Any) -> Any:
    from tokenizers import Tokenizer

    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.encode_special_tokens = True  # reads "<|im_end|>" in a text as those ten characters
    return backend
