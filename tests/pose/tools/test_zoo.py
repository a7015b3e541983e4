"""python -m pose.tools.zoo: the table, the facts and the file of a published network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pose import config as cfg
from pose import zoo
from pose.errors import user_facing
from pose.tools import zoo as command
from tests.command_lines import ROOT
from tests.file_server import served
from tests.small_zoo import CONTENT, make_zoo, use_mirror


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder of a zoo that has one network, `small`."""
    return make_zoo(tmp_path, monkeypatch)


def printed(capsys: Any, *arguments: str) -> str:
    assert command.main([*arguments]) == 0
    return capsys.readouterr().out


def test_the_table_of_the_documents_is_up_to_date(capsys: Any) -> None:
    table = printed(capsys, "list", "--markdown")
    assert table in (ROOT / "docs" / "zoo.md").read_text(encoding="utf-8"), (
        "write the table of docs/zoo.md again: python -m pose.tools.zoo list --markdown"
    )


def test_the_table(capsys: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("POSE_CACHE", str(tmp_path))
    network = zoo.entry("higherhrnet_w32_aic")
    (tmp_path / network.file_name).write_bytes(b"")
    lines = printed(capsys, "list").splitlines()
    assert len(lines) == 37 and lines[0].split() == list(command.HEADER)
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in lines[2:]}
    assert rows["higherhrnet_w32_aic"] == (
        "associative embedding AI Challenger Apache-2.0 (data: research only) downloaded 512 x 512 31.5 32.3 "
        "28.6 M 115 MB"
    )
    assert rows["higherhrnet_w32_udp"].endswith("not downloaded 512 x 512 67.8 - 28.6 M 115 MB")
    assert rows["ae_hrnet_w32_wholebody"].endswith("512 x 512 34.2 - 28.5 M 114 MB")
    assert sum("method not built yet" in row for row in rows.values()) == 12


def test_for_programs(capsys: Any) -> None:
    records = json.loads(printed(capsys, "list", "--json"))
    assert [one["name"] for one in records] == zoo.names()
    assert records[0]["published"]["single"]["AP"] == zoo.entries()[0].score("single")


def test_the_facts_are_those_of_the_entry(capsys: Any) -> None:
    text = printed(capsys, "show", "higherhrnet_w48")
    assert cfg.parse_yaml(text, "shown") == cfg.to_plain(zoo.entry("higherhrnet_w48"))
    assert text.startswith(f"# {zoo.cache_folder()}/higher_hrnet48_coco_512x512-60fedcbc_20200712.pth: ")


def test_a_file(capsys: Any, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(CONTENT) as server:
        use_mirror(server, monkeypatch)
        assert printed(capsys, "get", "small", "--to", str(tmp_path / "a")) == f"{tmp_path}/a/small.pth\n"
        assert not small.exists()
        assert printed(capsys, "get", "small") == f"{small}/small.pth\n"
        assert len(server.requests) == 2
        for _ in range(2):  # from the cache
            assert printed(capsys, "get", "small", "--to", str(tmp_path / "b")) == f"{tmp_path}/b/small.pth\n"
        assert printed(capsys, "get", "small", "--to", str(small)) == f"{small}/small.pth\n"
        assert len(server.requests) == 2
    assert (tmp_path / "b" / "small.pth").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["get", "dekr_hrnet_w32"], "is not built yet"),
        (["get", "nothing_like_it"], "no network 'nothing_like_it' in the zoo"),
        (["show", "nothing_like_it"], "no network 'nothing_like_it' in the zoo"),
        (["export", "none", "-o", "out"], "no run 'none'"),
    ],
)
def test_mistakes_are_one_sentence(
    capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert user_facing(lambda: command.main(words))() == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_a_copy_that_was_changed(capsys: Any, small: Path, tmp_path: Path) -> None:
    small.mkdir()
    (small / "small.pth").write_bytes(CONTENT)
    (tmp_path / "small.pth").write_bytes(b"mine")
    assert user_facing(lambda: command.main(["get", "small", "--to", str(tmp_path)]))() == 2
    assert "is not the published file" in capsys.readouterr().err
    assert (tmp_path / "small.pth").read_bytes() == b"mine"
