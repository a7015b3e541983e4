"""pose.zoo: every entry is sound, and a network's file is found, fetched and checked by its name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pose import config as cfg
from pose import skeleton, zoo
from pose.config_files import config_folder, find_config
from pose.errors import UserError
from pose.experiment import ExperimentConfig
from tests.file_server import served
from tests.small_zoo import CONTENT, make_zoo, use_mirror, write_entry

ENTRIES = zoo.entries()

every_entry = pytest.mark.parametrize("network", ENTRIES, ids=lambda network: network.name)


def test_there_are_35_networks_with_names_and_files_of_their_own() -> None:
    assert len(ENTRIES) == 35
    for values in (
        [one.name for one in ENTRIES],
        [one.url for one in ENTRIES],
        [one.file_name for one in ENTRIES],
        [one.sha256 for one in ENTRIES],
    ):
        assert len(set(values)) == 35
    assert [one.name for one in ENTRIES] == zoo.names() == sorted(zoo.names())


@every_entry
def test_the_start_of_the_sha256_stands_in_the_file_name(network: zoo.ZooEntry) -> None:
    assert re.findall(r"[-_]([0-9a-f]{8})[-_]\d{8}\.pth$", network.file_name) == [network.sha256]


@every_entry
def test_the_facts_of_an_entry_agree(network: zoo.ZooEntry) -> None:
    size = re.findall(r"(\d{3})x(\d{3})", network.file_name) or re.findall(r"_(\d{3})_", network.name)
    assert network.input_size == tuple(map(int, size[0]))
    words = network.name.split("_")
    width = network.network.get("width")
    assert width is None or f"w{width}" in words
    assert ("udp" in words) == network.source_settings.get("use_udp", False)
    marks = {"aic": "AI Challenger", "crowdpose": "CrowdPose", "mhp": "MHP", "wholebody": "COCO-WholeBody"}
    assert network.data == next((data for mark, data in marks.items() if mark in words), "COCO")
    prefixes = {"dekr": "center_offsets", "cid": "instances", "ae": "tags", "higherhrnet": "tags"}
    assert network.method == prefixes[words[0]]
    assert network.source.branch == ("1.x" if "/v1/" in network.url else "0.x")
    assert 9e6 < network.parameters < 140e6
    scores = [value for test in network.published.values() for value in test.values()]
    assert scores and all(0 < value < 1 for value in scores)
    single, multi = network.score("single"), network.score("multi")
    assert single is not None and (multi is None or multi >= single)
    assert ("multi" in network.settings["test"]) == ("multi" in network.published)


@every_entry
def test_the_skeleton_and_the_settings_exist(network: zoo.ZooEntry) -> None:
    keypoints = skeleton.from_dict(cfg.read_yaml(config_folder() / "_skeletons" / f"{network.skeleton}.yaml"))
    counts = {"COCO": 17, "AI Challenger": 14, "CrowdPose": 14, "MHP": 16, "COCO-WholeBody": 133}
    assert len(keypoints) == counts[network.data]
    merged = cfg.Merged(ExperimentConfig)
    merged.put({"data": {}, "backbone": {"name": "hourglass"}, "head": {"name": "tags"}}, "a config")
    merged.put(network.settings, network.name)
    config = cfg.validate(ExperimentConfig, merged)
    assert config.input.size == network.input_size and config.test.flip


def test_methods_that_are_not_built_are_refused(tmp_path: Path) -> None:
    closed = [one.name for one in ENTRIES if not one.usable]
    assert len(closed) == 12 and all(name.startswith(("cid", "dekr")) for name in closed)
    with pytest.raises(UserError, match=r"cid_hrnet_w32: its method CID .* is not built yet"):
        zoo.fetch("cid_hrnet_w32", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_names() -> None:
    assert zoo.entry("zoo:higherhrnet_w32") == zoo.entry("higherhrnet_w32")
    with pytest.raises(
        UserError, match=r"no network 'higherhrnet32' in the zoo, did you mean 'higherhrnet_w32'"
    ):
        zoo.entry("higherhrnet32")
    for name in ("", "../coco/ae_small", "/etc/passwd", "HIGHERHRNET_W32"):
        with pytest.raises(UserError, match="no network"):
            zoo.entry(name)


def test_networks_are_no_configs() -> None:
    with pytest.raises(UserError) as caught:
        find_config("configs/zoo/none.yaml")
    assert "configs/zoo/higher" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("sha256", "12345", "sha256"),
        ("sha256", "8AE85183", "sha256"),
        ("url", "http://example.org/a.pth", "url"),
        ("url", "https://example.org/", "url"),
        ("url", "file:///a.pth", "url"),
        ("method", "magic", "method"),
        ("published", {}, "published"),
        ("published", {"triple": {"AP": 0.5}}, "published"),
        ("colour", "red", "unknown key"),
    ],
)
def test_an_entry_with_a_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, value: Any, message: str
) -> None:
    write_entry(tmp_path, **{key: value})
    monkeypatch.setattr(zoo, "_folder", lambda: tmp_path)
    with pytest.raises(UserError, match=message):
        zoo.entry("small")


# -------------------------------------------------------------------------------------------------- the files


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder of a zoo that has one network, `small`."""
    return make_zoo(tmp_path, monkeypatch)


@pytest.mark.parametrize("folder", ["/mirror/zoo", "/mirror/zoo/"])
def test_a_mirror(small: Path, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    assert zoo.cached_file(zoo.entry("small")) is None
    with served(CONTENT) as server:
        use_mirror(server, monkeypatch, folder)
        assert zoo.fetch("small") == small / "small.pth"
    assert [path for path, _ in server.requests] == ["/mirror/zoo/small.pth"]
    assert (small / "small.pth").read_bytes() == CONTENT
    assert zoo.cached_file(zoo.entry("small")) == small / "small.pth"
    assert zoo.fetch("zoo:small") == small / "small.pth"  # the server is gone


def test_another_folder(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(CONTENT) as server:
        use_mirror(server, monkeypatch)
        assert zoo.fetch("small", tmp_path / "mine") == tmp_path / "mine" / "small.pth"
    assert not small.exists()


def test_offline_it_says_which_file_to_put_where_and_then_takes_it(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSE_ZOO_URL", "http://127.0.0.1:1/")
    with pytest.raises(UserError) as caught:
        zoo.fetch("small")
    found = re.search(
        r"cannot download (\S+): no connection .*put it into (\S+) as (\S+)$", str(caught.value)
    )
    assert found and found[1] == "http://127.0.0.1:1/small.pth"
    (Path(found[2]) / found[3]).write_bytes(CONTENT)
    assert zoo.fetch("small").read_bytes() == CONTENT


def test_a_mirror_that_is_no_address(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSE_ZOO_URL", "/mnt/zoo")
    with pytest.raises(UserError, match="POSE_ZOO_URL=/mnt/zoo is not an http or https address"):
        zoo.fetch("small")
    monkeypatch.setenv("POSE_ZOO_URL", " ")
    assert zoo.address(zoo.entry("small")) == "https://example.org/a/small.pth"


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, "/home/me/.cache/bottomup-pose/zoo"),
        ("linux", {"XDG_CACHE_HOME": "/big/cache"}, "/big/cache/bottomup-pose/zoo"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/bottomup-pose/zoo"),
        ("linux", {"POSE_CACHE": "~/zoo", "XDG_CACHE_HOME": "/big"}, "/home/me/zoo"),
        ("linux", {"POSE_CACHE": ""}, "/home/me/.cache/bottomup-pose/zoo"),
        ("darwin", {}, "/home/me/Library/Caches/bottomup-pose/zoo"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/bottomup-pose/zoo"),
        ("win32", {}, "/home/me/AppData/Local/bottomup-pose/zoo"),
    ],
)
def test_the_cache_folder(
    monkeypatch: pytest.MonkeyPatch, platform: str, variables: dict[str, str], expected: str
) -> None:
    for name in ("POSE_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/me", **variables}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.platform", platform)
    assert zoo.cache_folder().as_posix() == expected
