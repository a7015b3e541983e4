"""Runs that `pose.tools.zoo export` wrote: a folder, or a web address that has its files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pose import checkpoint, download, zoo
from pose import config as cfg
from pose.backbones.pretrained import read_weights
from pose.errors import UserError
from pose.experiment import ExperimentConfig
from pose.published.conversion import Converted

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.yaml", "README.md"
DIGEST = re.compile(rf"^# {re.escape(WEIGHTS)}: sha256 ([0-9a-f]{{64}})$", re.M)
LARGEST_CONFIG = 1 << 20  # bytes


def is_publication(name: str) -> bool:
    """Whether what stands after `zoo:` is an address or a folder, and not a name in the zoo."""
    return bool(re.match(r"https?://", name)) or "/" in name or "\\" in name or name in (".", "..")


class Publication:
    """The files of an exported run, by the text after `zoo:`; of an address, in the user's cache folder.

    Raises `UserError` where there are none, or they are not what `pose.tools.zoo export` writes."""

    def __init__(self, name: str) -> None:
        self.address = name.rstrip("/") if re.match(r"https?://", name) else None
        if self.address is None:
            self.folder = Path(name).expanduser()
            if not self.folder.is_dir():
                raise UserError(f"no folder {self.folder}; zoo:DIR is one that pose.tools.zoo export wrote")
            name = self.folder.resolve().name
        else:
            parts = urlsplit(self.address)
            self.folder = zoo.cache_folder() / "published" / plain(parts.netloc + parts.path)
            name = unquote(parts.path.rpartition("/")[2] or parts.netloc)
            download.fetch(f"{self.address}/{CONFIG}", self.folder / CONFIG, "", largest=LARGEST_CONFIG)
        self.config = self.folder / CONFIG
        if not self.config.is_file():
            raise UserError(
                f"{self.folder} has no {CONFIG}; zoo:DIR is a folder that pose.tools.zoo export wrote"
            )
        found = DIGEST.search(self.config.read_text(encoding="utf-8", errors="replace"))
        if not found:
            raise UserError(
                f"{self.config} does not say what {WEIGHTS} is; export the run again (pose.tools.zoo export)"
            )
        self.sha256 = found[1]
        self.title = f"exported run from {self.address or self.folder}; its {CARD} states the licence"
        # other weights are another run
        self.run = f"zoo-{plain(name)}-{self.sha256[:8]}"

    def convert(self) -> Converted:
        """The network with its weights, which are downloaded where they are not there, and checked."""
        file = self.folder / WEIGHTS
        if self.address is None:
            download.check(file, self.sha256)
        else:
            download.fetch(f"{self.address}/{WEIGHTS}", file, self.sha256)
        merged = cfg.Merged(ExperimentConfig)
        merged.put(self._settings(), str(self.config))
        config = cfg.validate(ExperimentConfig, merged)
        model = config.build_model()
        try:
            report = checkpoint.load_matching(model, read_weights(file))
        except UserError as error:
            raise UserError(f"{file}: {error}") from None
        if not report.complete:
            raise UserError(f"{file} does not fill the network of {self.config}: {report}")
        return Converted(config, model, str(report))

    def _settings(self) -> dict[str, Any]:
        """Settings of that file alone, without names of files: a download must not lead to others of this
        machine."""
        settings = cfg.read_yaml(self.config)
        data = settings.get("data")
        if (
            {"base", "train"} & {*settings}
            or not isinstance(data, dict)
            or {*data} != {"skeleton"}
            or not isinstance(data["skeleton"], dict)
        ):
            raise UserError(
                f"{self.config} is not as pose.tools.zoo export writes it; it has further sections"
            )
        return settings


def plain(text: str) -> str:
    """For names of files and runs."""
    return re.sub(r"[^\w.+-]+", "_", text)
