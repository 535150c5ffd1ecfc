"""Broken data sets: folders, tables and files that people really have, and some that people make on purpose.

Each is made from a good one of four samples with the ids a, b, c and d, so that what a pass must say of every
row is known.
"""

from __future__ import annotations

import json
import os
import random
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.kit.data_sets import write_list, write_picture

IDS = ("a", "b", "c", "d")
TAGS = ("positive", "negative", "neutral", "positive")


@dataclass(frozen=True)
class BrokenData:
    """One broken data set.

    Attributes
    ----------
    name : str
    make : callable
        Spoils the good data set in a folder; returns what ``--data`` must name, relative to the folder.
    expected : mapping, or None
        Id -> label of its status, of the rows that must not be ok where a pass is possible; None where the
        data set must be refused.
    """

    name: str
    make: Callable[[Path], str | None]
    expected: Mapping[str, str] | None = field(default=None)


DATA: list[BrokenData] = []


def _data(
    expected: Mapping[str, str] | None = None,
) -> Callable[[Callable[[Path], str | None]], Callable[[Path], str | None]]:
    def register(make: Callable[[Path], str | None]) -> Callable[[Path], str | None]:
        DATA.append(BrokenData(make.__name__, make, expected))
        return make

    return register


def make_good_data(folder: Path) -> None:
    """Write the data set of four samples, in the guid layout."""
    (folder / "data").mkdir(parents=True)
    for number, guid in enumerate(IDS):
        (folder / "data" / f"{guid}.txt").write_text(f"the cat {guid}", encoding="utf-8")
        write_picture(folder / "data" / f"{guid}.png", (200, 60 * number, 30), seed=number)
    write_list(folder / "train.txt", list(zip(IDS[:3], TAGS, strict=False)))
    write_list(folder / "test_without_label.txt", [("d", "null")])


# --- lists of the guid layout -----------------------------------------------------------------------

_LISTS: dict[str, tuple[bytes, bool]] = {
    # name -> (content of train.txt, whether it is refused)
    "list_empty": (b"", True),
    "list_of_a_mark_alone": (b"\xef\xbb\xbf", True),
    "list_of_blanks": (b" \n\t\n \n", True),
    "list_of_a_header": (b"guid,tag\n", False),
    "list_without_header": (b"a,positive\nb,negative\n", True),
    "list_with_another_header": (b"id,label\na,positive\n", True),
    "list_with_semicolons": (b"guid;tag\na;positive\n", True),
    "list_with_tabs": (b"guid\ttag\na\tpositive\n", True),
    "list_with_three_cells": (b"guid,tag\na,positive,1\n", True),
    "list_with_one_cell": (b"guid,tag\na\n", True),
    "list_with_an_empty_id": (b"guid,tag\n,positive\n", True),
    "list_with_two_labels_of_one_id": (b"guid,tag\na,positive\na,negative\n", True),
    "list_with_an_id_that_is_a_number": (b"guid,tag\na.0,positive\n1.0,negative\n1,positive\n", True),
    "list_in_utf16_without_mark": ("guid,tag\na,positive\n".encode("utf-16-le"), True),
    "list_in_utf16_cut": ("\ufeffguid,tag\na,positive\n".encode("utf-16-le")[:-1], True),
    "list_with_nul": (b"guid,tag\na,posi\0tive\n", True),
    "list_with_an_open_quote": (b'guid,tag\n"a,positive\nb,negative\n', True),
    "list_with_a_quote_inside": (b'guid,tag\na,"pos"itive\n', True),
    "list_with_escapes_in_an_id": (b"guid,tag\na\x1b[2J,positive\n", True),
    "list_with_a_newline_in_an_id": (b'guid,tag\n"a\nb",positive\n', True),
    "list_with_an_id_of_a_path": (b"guid,tag\n../../../etc/passwd,positive\na,negative\n", False),
    "list_with_an_absolute_id": (b"guid,tag\n/etc/passwd,positive\na,negative\n", False),
    "list_with_a_formula": (b"guid,tag\n\"=cmd|' /C calc'!A0\",positive\na,negative\n", False),
    "list_of_bytes": (bytes(range(256)) * 40, True),
    "list_that_is_a_zip": (b"PK\x03\x04" + bytes(60), True),
    "list_that_is_html": (b"<!DOCTYPE html><html><body>404</body></html>", True),
    "list_of_one_endless_line": (b"guid,tag\n" + b"x" * (1 << 20), True),
    "list_with_surrogates": (b"guid,tag\na\xed\xa0\x80,positive\n", False),
}


def _register_lists() -> None:
    for name, (content, refused) in _LISTS.items():

        def make(folder: Path, content: bytes = content) -> None:
            (folder / "train.txt").write_bytes(content)

        make.__name__ = name
        _data(None if refused else {})(make)


_register_lists()


@_data()
def list_that_is_a_folder(folder: Path) -> None:
    for name in ("train.txt", "test_without_label.txt"):
        (folder / name).unlink()
        (folder / name).mkdir()


@_data()
def list_that_is_a_pipe(folder: Path) -> None:
    for name in ("train.txt", "test_without_label.txt"):
        (folder / name).unlink()
        os.mkfifo(folder / name)


@_data()
def list_without_the_folder_of_files(folder: Path) -> None:
    (folder / "data").rename(folder / "dta")


@_data()
def folder_of_files_that_is_a_file(folder: Path) -> None:
    (folder / "data").rename(folder / "dta")
    (folder / "data").touch()


@_data()
def file_that_links_to_itself(folder: Path) -> None:
    (folder / "data" / "b.png").unlink()
    (folder / "data" / "b.png").symlink_to("b.png")


@_data()
def file_that_links_outside(folder: Path) -> None:
    (folder / "data" / "b.png").unlink()
    (folder / "data" / "b.png").symlink_to("/etc/hostname")


@_data()
def folder_that_is_empty(folder: Path) -> str:
    (folder / "nothing").mkdir()
    return "nothing"


@_data()
def folder_that_is_not_there(folder: Path) -> str:
    return "gone/deep"


@_data()
def data_that_is_a_picture(folder: Path) -> str:
    return "data/a.png"


@_data()
def data_that_is_a_device(folder: Path) -> str:
    return "/dev/null"


@_data()
def folder_with_two_tables(folder: Path) -> str:
    (folder / "two").mkdir()
    for name in ("a.csv", "b.tsv"):
        (folder / "two" / name).write_text("id,text\n1,x\n")
    return "two"


# --- texts and pictures of single rows --------------------------------------------------------------


def _text(guid: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: _write(folder / "data" / f"{guid}.txt", content)


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _named(name: str, make: Callable[[Path], None], expected: Mapping[str, str]) -> None:
    DATA.append(BrokenData(name, make, expected))


_named("text_empty", _text("b", b""), {"b": "text_empty"})
_named("text_of_blanks", _text("b", " \u3000\n".encode()), {"b": "text_empty"})
_named("text_with_nul", _text("b", b"good\0bad"), {"b": "text_encoding"})
_named("text_in_no_encoding", _text("b", b"\x81\x30\x8d\xff\xff\x90"), {"b": "text_encoding"})
_named("text_in_utf16_cut", _text("b", "\ufeffgood".encode("utf-16-le")[:-1]), {"b": "text_encoding"})
_named("text_missing", lambda folder: (folder / "data" / "b.txt").unlink(), {"b": "text_missing"})


@_data({"b": "text_missing"})
def text_that_is_a_folder(folder: Path) -> None:
    (folder / "data" / "b.txt").unlink()
    (folder / "data" / "b.txt").mkdir()


@_data({"b": "text_missing"})
def text_of_a_terabyte(folder: Path) -> None:
    os.truncate(folder / "data" / "b.txt", 1 << 40)


_PICTURES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "picture_empty": (lambda _: b"", "image_corrupt"),
    "picture_cut_in_its_header": (lambda good: good[:20], "image_corrupt"),
    "picture_cut_in_half": (lambda good: good[: len(good) // 2], "image_corrupt"),
    "picture_that_is_html": (lambda _: b"<html>404</html>", "image_format"),
    "picture_that_is_a_script": (lambda _: b"%!PS-Adobe-3.0\n(x) show", "image_format"),
    "picture_of_zeros": (lambda _: bytes(5000), "image_format"),
    "picture_with_zeros_inside": (lambda good: good[:60] + bytes(len(good) - 60), "image_corrupt"),
    "picture_of_no_width": (lambda good: good[:16] + bytes(4) + good[20:], "image_format"),
    "picture_of_400_megapixels": (
        lambda _: b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 20000, 20000, 1, 24, *[0] * 6),
        "image_too_large",
    ),
}


def _register_pictures() -> None:
    for name, (spoil, status) in _PICTURES.items():

        def make(folder: Path, spoil: Callable[[bytes], bytes] = spoil) -> None:
            path = folder / "data" / "b.png"
            path.write_bytes(spoil(path.read_bytes()))

        make.__name__ = name
        _data({"b": status})(make)


_register_pictures()


@_data({"b": "image_missing"})
def picture_missing(folder: Path) -> None:
    (folder / "data" / "b.png").unlink()


@_data({"b": "image_missing"})
def picture_that_is_a_folder(folder: Path) -> None:
    (folder / "data" / "b.png").unlink()
    (folder / "data" / "b.png").mkdir()


@_data({"b": "image_missing"})
def picture_that_is_a_pipe(folder: Path) -> None:
    (folder / "data" / "b.png").unlink()
    os.mkfifo(folder / "data" / "b.png")


@_data({"b": "image_too_large"})
def picture_of_a_terabyte(folder: Path) -> None:
    os.truncate(folder / "data" / "b.png", 1 << 40)


# --- tables -----------------------------------------------------------------------------------------

_ROWS = [("a", "one", "data/a.png", "positive"), ("b", "two", "data/b.png", "negative")]
_TABLE = "id,text,image,label\n" + "".join(",".join(row) + "\n" for row in _ROWS)

_TABLES: dict[str, tuple[str, bytes]] = {
    "table_empty": ("t.csv", b""),
    "table_of_a_header": ("t.csv", b"id,text,label\n"),
    "table_without_id": ("t.csv", b"text,label\nx,positive\n"),
    "table_with_ids_alone": ("t.csv", b"id,label\na,positive\n"),
    "table_with_a_column_twice": ("t.csv", b"id,text,text\na,x,y\n"),
    "table_with_a_long_row": ("t.csv", b"id,text,label\na,x,positive,extra\nb,y,negative\n"),
    "table_with_a_short_row": ("t.csv", b"id,text,label\na,x\nb,y,negative\n"),
    "table_with_an_open_quote": ("t.csv", b'id,text,label\na,"x,positive\nb,y,negative\n'),
    "table_with_nul": ("t.csv", b"id,text,label\na,x\0y,positive\n"),
    "table_with_a_path_out": ("t.csv", _TABLE.replace("data/a.png", "../../x.png").encode()),
    "table_with_an_absolute_path": ("t.csv", _TABLE.replace("data/a.png", "/etc/passwd").encode()),
    "table_with_a_split_of_no_name": ("t.csv", b"id,text,split\na,x,holdout\nb,y,train\n"),
    "table_with_two_rows_of_an_id": ("t.csv", b"id,text\na,x\na,y\n"),
    "table_of_bytes": ("t.csv", bytes(range(256)) * 20),
    "table_of_tabs_that_is_csv": ("t.tsv", _TABLE.encode()),
    "table_of_a_hundred_thousand_columns": ("t.csv", b",".join(b"c%d" % i for i in range(100_000)) + b"\n"),
    "lines_that_are_not_json": ("t.jsonl", b"id: a\n"),
    "lines_that_are_lists": ("t.jsonl", b'["a", "x"]\n'),
    "lines_nested_deeply": ("t.jsonl", b'{"id": "a", "text": ' + b"[" * 100_000 + b"\n"),
    "lines_with_a_long_number": ("t.jsonl", b'{"id": ' + b"9" * 10_000 + b', "text": "x"}\n'),
    "lines_with_a_list_as_id": ("t.jsonl", b'{"id": {"a": []}, "text": ["x"], "label": "positive"}\n'),
    "lines_with_no_id": ("t.jsonl", b'{"text": "x"}\n{"id": "b", "text": "y"}\n'),
    "lines_with_nothing": ("t.jsonl", b"{}\n{}\n"),
    "lines_with_surrogates": ("t.jsonl", b'{"id": "\\ud800", "text": "x"}\n'),
    "lines_with_surrogates_in_a_label": ("t.jsonl", b'{"id": "a", "text": "x", "label": "\\udfff"}\n'),
    "lines_with_a_path_of_nul": ("t.jsonl", b'{"id": "a", "image": "data/a\\u0000.png"}\n'),
    "lines_with_a_path_of_surrogates": ("t.jsonl", b'{"id": "a", "image": "data/\\ud800.png"}\n'),
    "lines_with_a_path_too_long": ("t.jsonl", b'{"id": "a", "image": "' + b"d/" * 5000 + b'x.png"}\n'),
    "parquet_that_is_none": ("t.parquet", b"PAR1" + bytes(40) + b"PAR1"),
    "parquet_that_is_empty": ("t.parquet", b""),
    "parquet_that_is_csv": ("t.parquet", _TABLE.encode()),
    "table_in_another_format": ("t.xlsx", b"PK\x03\x04" + bytes(100)),
    "mvsa_without_lines": ("labelResultAll.txt", b"ID\ttext,image\n"),
    "mvsa_with_other_labels": ("labelResultAll.txt", b"ID\ttext,image\na\tgood,bad\n"),
    "mvsa_with_one_label": ("labelResultAll.txt", b"ID\ttext,image\na\tpositive\n"),
}


def _register_tables() -> None:
    for name, (file, content) in _TABLES.items():

        def make(folder: Path, file: str = file, content: bytes = content) -> str:
            (folder / file).write_bytes(content)
            return file

        make.__name__ = name
        # Whether a table may pass is said by its rows alone: every answer but a crash is right.
        DATA.append(BrokenData(name, make, {}))


_register_tables()


# --- what chance makes ------------------------------------------------------------------------------

_NASTY = [
    b"\0",
    b'"',
    b",",
    b"\n",
    b"\r",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\x1b[2J",
    b"{",
    b"9" * 400,
    b"../",
    b"=",
]


def spoiled(content: bytes, chance: random.Random) -> bytes:
    """Return bytes with one to three places changed, cut, doubled or filled with something nasty."""
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(content) + 1)
        end = min(len(content), at + chance.choice([1, 1, 4, 40]))
        kind = chance.randrange(5)
        if kind == 0:
            content = content[:at]
        elif kind == 1:
            content = content[:at] + content[end:]
        elif kind == 2:
            content = content[:at] + content[at:end] * 2 + content[end:]
        elif kind == 3:
            content = content[:at] + chance.choice(_NASTY) + content[end:]
        else:
            content = (
                content[:at] + bytes(b ^ (1 << chance.randrange(8)) for b in content[at:end]) + content[end:]
            )
        if not content:
            break
    return content


def chance_data(seed: int, count: int) -> list[BrokenData]:
    """Return data sets whose list, table, text or picture was spoiled by chance."""
    lines = "".join(
        json.dumps(dict(zip(("id", "text", "image", "label"), row, strict=True))) + "\n" for row in _ROWS
    )
    starts = {"train.txt": None, "t.csv": _TABLE.encode(), "t.jsonl": lines.encode(), "data/b.png": None}
    made = []
    for number in range(count):
        file = list(starts)[number % len(starts)]

        def make(folder: Path, file: str = file, number: int = number) -> str | None:
            content = starts[file] or (folder / file).read_bytes()
            (folder / file).write_bytes(spoiled(content, random.Random(f"{seed} {number}")))
            return file if file.startswith("t.") else None

        made.append(BrokenData(f"chance_{file.replace('/', '_')}_{number}", make, {}))
    return made
