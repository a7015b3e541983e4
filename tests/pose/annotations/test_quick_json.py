"""The quick reader gives what `json` gives, or nothing."""

from __future__ import annotations

import json
from array import array
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from pose.annotations import quick_json, reader
from pose.annotations.json_file import (
    ANNOTATION_KEYS,
    UNREAD,
    compact,
    packed,
    packed_numbers,
    segmentations_of,
)

PERSON: dict[str, Any] = {
    "id": 7, "image_id": 1, "category_id": 1, "iscrowd": 1, "num_keypoints": 1, "area": 12.5,
    "keypoints": [1, 2, 2, 0, 0, 0], "bbox": [1, 2, 3.5, 4], "segmentation": [[1, 2, 3, 4, 5, 6.5]],
}  # fmt: skip
IMAGE = {"id": 1, "file_name": "a.jpg", "width": 64, "height": 48, "license": 1, "url": "http://x/a.jpg"}
CATEGORY = {"id": 1, "name": "person", "keypoints": ["nose", "neck"]}


def document(**changes: str) -> bytes:
    """A file with one image and one person.  changes: JSON for values of the person."""
    values = {**{key: json.dumps(value) for key, value in PERSON.items()}, **changes}
    person = ", ".join(f"{json.dumps(key)}: {value}" for key, value in values.items())
    rest = json.dumps({"info": {"year": 2024}, "images": [IMAGE], "categories": [CATEGORY]})
    return f'{rest[:-1]}, "annotations": [{{{person}}}]}}'.encode("utf-8", "surrogatepass")


def plainly(raw: bytes) -> Any:
    return json.loads(raw.decode("utf-8", "surrogatepass"), object_hook=compact)


def read_up(content: Any) -> Any:
    """With segmentations read, keys that are null or absent alike, and the kinds of numbers told apart."""
    people = content["annotations"]
    segmentations = segmentations_of([one if isinstance(one, dict) else {} for one in people])
    read = [
        {**{key: one.get(key) for key in (*ANNOTATION_KEYS, "_lists")}, "segmentation": segmentation}
        if isinstance(one, dict) and "image_id" in one
        else one
        for one, segmentation in zip(people, segmentations, strict=True)
    ]
    return repr({**content, "annotations": read}), [UNREAD in one for one in people if isinstance(one, dict)]


def assert_alike(raw: bytes) -> None:
    found = quick_json.read(raw)
    assert found is not None
    assert {**json_equal(found)} == {**json_equal(plainly(raw))}


def json_equal(content: dict[str, Any]) -> dict[str, Any]:
    """A file's content by its keys; the order of keys does not count."""
    text, _ = read_up({"annotations": content["annotations"]})
    return {
        **{key: repr(value) for key, value in content.items() if key != "annotations"},
        "annotations": text,
    }


def test_the_usual_file_is_read_quickly_and_packed() -> None:
    found = quick_json.read(document())
    assert found is not None
    (person,) = found["annotations"]
    assert person[UNREAD] == b"[[1, 2, 3, 4, 5, 6.5]]"
    assert person["keypoints"] == array("h", PERSON["keypoints"]) and person["bbox"].typecode == "d"
    assert found["images"] == [{key: value for key, value in IMAGE.items() if key != "license"}]
    assert_alike(document())


OUTLINE = [[1, 2, 9, 2, 9, 8.5]]
LISTS: tuple[Any, ...] = (
    [1, 2, 2, 0, 0, 0], [0, 0, 0, 3, 4, 1], [0] * 6, [], None, [1, 2, 2], [5, 5, 0, 5, 5, 0, 5, 5, 2],
    [[1, 2, 2]], [1, 2, -1, 0, 0, 0], [1, 2, 0.5, 0, 0, 0], [1, 2, 1e-60, 0, 0, 0], [1, 2, True, 0, 0, 0],
    [1, 2, "2", 0, 0, 0],
)  # fmt: skip
CROWDS: tuple[Any, ...] = (None, 0, 1, 2, -1, 0.0, 0.5, True, False, "0", "1", "text", [], [0])


@pytest.mark.parametrize("image", [IMAGE, {**IMAGE, "file_name": "\ud800.jpg"}], ids=["quick", "plain"])
def test_only_segmentations_that_nobody_asks_for_are_left_out(tmp_path: Path, image: dict[str, Any]) -> None:
    people = [
        {**PERSON, "id": i + 1, "keypoints": keypoints, "iscrowd": crowd, "segmentation": OUTLINE}
        for i, (keypoints, crowd) in enumerate(product(LISTS, CROWDS))
    ]
    content = {"images": [image], "annotations": people, "categories": [CATEGORY]}
    file = tmp_path / "a.json"
    file.write_text(json.dumps(content))
    assert (quick_json.read(file.read_bytes()) is None) == (image is not IMAGE)
    found, whole = reader.read(file), reader.parse(content, file)
    expected = {row: [array("d", OUTLINE[0])] for row in whole.masks}
    assert dict(found.masks) == expected
    assert set(expected) >= {row for row in range(len(people)) if whole.ignored[row]}
    assert 0 < len(expected) < len(people)
    for one, other in zip(found.issues, whole.issues, strict=True):
        assert (one.code, one.rows.tolist(), one.details) == (other.code, other.rows.tolist(), other.details)


@pytest.mark.parametrize("decoded", [1, 2, 3, 1 << 20])
def test_text_of_any_language(decoded: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick_json, "DECODED", decoded)  # parts end within a letter
    for more in ({}, {"caption": "\u0394 \U0001f3c3"}):
        people = [{**PERSON, **more, "human": "\u4eba"} if more else PERSON]
        for name in ("\xe9.jpg", "\u56fe\u7247/1.jpg", "\U0001f3c3.jpg"):
            content = {"images": [{**IMAGE, "file_name": name}], "annotations": people, "info": {name: name}}
            raw = json.dumps(content, ensure_ascii=False).encode()
            assert not raw.isascii()
            assert_alike(raw)


def test_one_unusual_entry_among_usual_ones() -> None:
    """They are read in one pass, or one by one."""
    usual = [json.dumps({**PERSON, "id": i, "iscrowd": i % 2}) for i in range(20)]
    for odd in ("3", "{}", json.dumps({**PERSON, "more": 1}), json.dumps({**PERSON, "keypoints": None})):
        for place in (0, 7, 20):
            people = ", ".join([*usual[:place], odd, *usual[place:]])
            raw = f'{{"images": [{json.dumps(IMAGE)}], "annotations": [{people}]}}'.encode()
            assert_alike(raw)
            assert quick_json._in_one_pass(raw) is None


def test_further_keys_of_the_file_are_kept() -> None:
    for more in ({}, {"licenses": [{"id": 1}]}, {"score": 0.5}, {"keypoints": [1]}):
        raw = json.dumps({**more, **json.loads(document())}).encode()
        assert_alike(raw)
        found = quick_json.read(raw)
        assert found is not None and more.items() <= found.items()


@pytest.mark.parametrize(
    "values",
    [[], [1], [1, 2.0], [2.0, 1], [0.5], [32767, -32768], [32768], [-32769, 0.5], [10**400], [1.0, 10**400],
     [2**53 + 1], [1, 10**400, 0.5]],
)  # fmt: skip
def test_lists_known_to_hold_numbers_are_packed_as_any_list(values: list[int | float]) -> None:
    assert repr(packed_numbers(values)) == repr(packed(values))


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "1.0"}, {"id": '"7"'}, {"id": "null"}, {"id": "true"}, {"id": "[1]"}, {"id": '{"a": 1}'},
        {"id": "9223372036854775808"}, {"area": "-0.0"}, {"area": "-0"}, {"area": "1e5"}, {"area": "1e-400"},
        {"area": "NaN"}, {"area": "-Infinity"}, {"area": "1e400"}, {"area": "1" * 400}, {"area": '"\\ud800"'},
        {"keypoints": "null"}, {"keypoints": "[]"}, {"keypoints": "[[1, 2, 2], [0, 0, 0]]"},
        {"keypoints": "[1, 2, true, 0, 0, 0]"}, {"keypoints": "[1, 2, null]"}, {"keypoints": "[NaN, 1, 2]"},
        {"keypoints": "[32768, -32769, 2]"}, {"keypoints": "[1e400, 1, 2]"}, {"keypoints": '"text"'},
        {"keypoints": f"[{'9' * 400}, 1, 2]"}, {"keypoints": '{"image_id": 1, "keypoints": [1], "z": 2}'},
        {"bbox": "null"}, {"bbox": "[1, 2]"}, {"bbox": '"x"'}, {"bbox": "[1, 2, null, 4]"},
        {"segmentation": "null"}, {"segmentation": "[]"}, {"segmentation": "[[]]"}, {"segmentation": "{}"},
        {"segmentation": '[[1, 2, "3"], null, 4]'}, {"segmentation": "[[true, 1]]"}, {"segmentation": "3"},
        {"segmentation": '{"size": [48, 64], "counts": [3000, 72]}'},
        {"segmentation": '{"size": [48.0, 64], "counts": [3000.0, 72]}'},
        {"segmentation": '{"size": [48, 64], "counts": [true, 3071]}'},
        {"segmentation": '{"size": [48, 64], "counts": [3000000000]}'},
        {"segmentation": '{"size": [48, 64], "counts": "abc", "more": 1}'},
        {"segmentation": '{"image_id": 1, "keypoints": [1], "more": 1}'},
        {"caption": '"what nobody asks for"'}, {"joints": "[1, 2, 2]"}, {"foot_kpts": "[1.5, 2, 0.5]"},
        {"human": '"human1"'}, {"_lists": '{"joints": 3}'}, {"_segmentation": '"[[1]]"'},
    ],
)  # fmt: skip
def test_unusual_values_are_read_as_json_reads_them(changes: dict[str, str]) -> None:
    raw = document(**changes)
    if quick_json.read(raw) is None:
        assert any(word in str(changes) for word in ("NaN", "Infinity", "1e400", "ud800"))
    else:
        assert_alike(raw)


@pytest.mark.parametrize(
    "entry",
    ["null", "3", "[]", "{}", '{"id": 1}', '{"image_id": 1}', '{"image_id": 1, "bbox": [1]}',
     '{"keypoints": [1]}',
     '{"image_id": 1, "image_id": 2, "keypoints": [1], "keypoints": [2, 3]}',
     '{"file_name": "a", "id": 3, "license": 4}',
     '{"file_name": "a", "image_id": 3, "category_id": 4, "x": 5}'],
)  # fmt: skip
@pytest.mark.parametrize("where", ["images", "annotations"])
def test_unusual_entries_are_read_as_json_reads_them(entry: str, where: str) -> None:
    other = {"images": "annotations", "annotations": "images"}[where]
    assert_alike(f'{{"{other}": [], "{where}": [{entry}], "categories": []}}'.encode())


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b"{}", b"null", b'{"images": []}', b'{"images": {}, "annotations": []}', document()[:-1],
     document() + b"x", document().replace(b"2024", b"02024"), document().replace(b"2024", b"NaN,"),
     document().replace(b"year", b"\xff"), document().replace(b"a.jpg", b"\xed\xa0\x80"),
     document().replace(b"a.jpg", b"\xc3"), document() + b"\xc3",
     document(id="1.", segmentation="[[1 2]]"), document(segmentation="[[01]]"), document(caption='"\x01"'),
     document().decode().encode("utf-16"), b"\xef\xbb\xbf" + document(),
     b'{"images": [], "annotations": [], "image_id": 1, "category_id": 2}', b"[" * 100_000],
)  # fmt: skip
def test_everything_else_is_left_to_json(raw: bytes) -> None:
    assert quick_json.read(raw) is None
