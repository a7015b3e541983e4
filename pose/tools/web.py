"""A page in the browser: drop a picture on it and see the people, the heatmaps and the tags or limbs.

    python -m pose.tools.web -c quickstart
    python -m pose.tools.web -c NAME --port 8080 --examples FOLDER test.flip=false

It is served to this machine only, until `--host 0.0.0.0` opens it to the network; the browser gives a camera
to this machine's own pages only.  Nothing is sent anywhere else.  Pictures that are uploaded lie in a
temporary folder for an hour at most and are gone when the page is stopped (Ctrl-C).  `test.*` and
`head.decoder.*` may be set as for pose.test.

Needs gradio: pip install 'bottomup-pose[web]'
"""

from __future__ import annotations

import argparse
import errno
import heapq
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pose.archives import archive_at, files_below, is_folder, read_bytes
from pose.errors import UserError, user_facing
from pose.files import write_bytes, write_picture
from pose.options import (
    TEST_SETTINGS,
    add_device,
    add_mode,
    add_run,
    add_runtime,
    add_settings,
    add_weights,
    user_path,
)

if TYPE_CHECKING:
    from pose.predictor import Predictor
    from pose.web.limits import Limits

EXAMPLES = 6
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
SESSIONS = 32  # visitors whose last picture is remembered
QUIET = {  # read by gradio and by what it imports
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "GRADIO_SHARE": "False",
}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pose.tools.web",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_run(parser)
    add_mode(parser)
    add_weights(parser)
    add_device(parser)
    add_runtime(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to serve (default: this machine only)")
    parser.add_argument("--port", type=int, default=7860, help="default 7860; 0: any that is free")
    parser.add_argument(
        "--max-megapixels", type=float, default=50, metavar="N", help="of a picture (default 50)"
    )
    parser.add_argument("--max-megabytes", type=float, default=20, metavar="N", help="of a file (default 20)")
    parser.add_argument(
        "--examples", type=user_path, metavar="FOLDER",
        help=f"its first {EXAMPLES} pictures are offered on the page (default: of the validation set)",
    )  # fmt: skip
    add_settings(parser, TEST_SETTINGS)
    return parser.parse_intermixed_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    from pose.predictor import Predictor
    from pose.web.limits import Limits
    from pose.web.page import build
    from pose.web.views import Viewer

    limits = Limits(options.max_megapixels, options.max_megabytes)
    port = free_port(options.host, options.port)
    predictor = Predictor.from_run(
        options.name,
        mode=options.mode,
        weights=options.weights,
        device=options.device,
        settings=options.settings,
        runtime=options.runtime,
    )
    if predictor.told:
        print(predictor.told, file=sys.stderr)
    with private_folder() as folder:
        gradio = import_gradio(folder)
        examples = find_examples(options.examples, predictor, folder)
        page = build(gradio, Viewer(predictor, limits), examples, folder)
        serve(page, options.host, port, limits)
    return 0


# ---- before the page ----


def free_port(host: str, port: int) -> int:
    """`port`, or a free one for 0.  `UserError` where it cannot be served."""
    host = host.strip("[]")
    if not 0 <= port <= 65535:
        raise UserError(f"--port {port}: expected 0 to 65535")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            if os.name == "posix":  # a port that was just left is free; on Windows this would steal one
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except (socket.gaierror, UnicodeError):
        raise UserError(f"--host {host!r}: there is no such address; try 127.0.0.1") from None
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise UserError(f"--host {host} is no address of this machine; try 127.0.0.1") from None
        raise port_taken(port, error.strerror or str(error)) from None


def port_taken(port: int, why: str) -> UserError:
    return UserError(f"cannot serve port {port} ({why}); choose another with --port, or any with --port 0")


@contextmanager
def private_folder() -> Iterator[Path]:
    """Where uploaded pictures and downloads lie until the end."""
    with tempfile.TemporaryDirectory(prefix="pose-web-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def import_gradio(folder: Path) -> Any:
    """gradio, which has been told to keep its files in `folder` and to call nobody."""
    os.environ.update(QUIET, GRADIO_TEMP_DIR=str(folder))
    logging.getLogger("httpx").setLevel(logging.WARNING)
    for name in ("NO_PROXY", "no_proxy"):  # it asks its own server whether it is up
        known = os.environ.get(name)
        os.environ[name] = ",".join(filter(None, (known, "127.0.0.1", "localhost", "::1")))
    try:
        import gradio
    except ImportError as error:
        raise UserError(f"the web page needs gradio ({error}): pip install 'bottomup-pose[web]'") from None
    if int(gradio.__version__.split(".")[0]) < 6:
        raise UserError(
            f"the web page needs gradio 6, here is {gradio.__version__}: pip install 'bottomup-pose[web]'"
        )
    return gradio


def find_examples(given: Path | None, predictor: Predictor, folder: Path) -> list[Path]:
    """The first pictures of the folder `given`, else of the validation set, else drawn people."""
    from pose.data.settings import set_files
    from pose.synthetic import dataset as synthetic

    if given is not None:
        if not is_folder(given):
            raise UserError(f"--examples {given} is no folder")
        if found := first_pictures(given, folder):
            return found
        raise UserError(f"--examples {given} has no pictures ({', '.join(SUFFIXES)})")
    try:
        source = set_files(predictor.experiment.config.data, "val").images
    except UserError:  # data.year is missing
        source = None
    if source is not None and (found := first_pictures(source, folder)):
        return found
    settings = synthetic.SyntheticConfig(size=480, max_people=4)
    paths = [folder / "drawn" / f"people-{i + 1}.jpg" for i in range(EXAMPLES)]
    for i, path in enumerate(paths):
        write_picture(path, synthetic.draw_picture(i, "val", settings)[0])
    return paths


def first_pictures(folder: Path, copies: Path) -> list[Path]:
    """The first pictures of a folder; of an archive copies of them in the folder `copies`."""
    if archive_at(folder) is not None:
        pictures = [file for file in files_below(folder) if file.name.lower().endswith(SUFFIXES)]
        chosen = [file for file in pictures if not file.name.startswith(".")][:EXAMPLES]
        try:
            for number, file in enumerate(chosen, start=1):
                write_bytes(copies / "archive" / f"{number}-{file.name}", read_bytes(file).tobytes())
        except OSError:  # a damaged one
            return []
        return [copies / "archive" / f"{n}-{file.name}" for n, file in enumerate(chosen, start=1)]
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.name.lower().endswith(SUFFIXES)]
            names = [name for name in names if not name.startswith(".")]
    except OSError:
        return []
    return [folder / name for name in heapq.nsmallest(EXAMPLES, names)]


def serve(page: Any, host: str, port: int, limits: Limits) -> None:
    """Until Ctrl-C or a request to end."""
    import gradio as gr

    from pose.web.page import CSS

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    bare = host.strip("[]")
    try:
        page.launch(
            server_name=f"[{bare}]" if ":" in bare else bare,
            server_port=port,
            share=False,
            inbrowser=False,
            quiet=True,
            prevent_thread_lock=True,
            max_file_size=limits.bytes,
            state_session_capacity=SESSIONS,
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            mcp_server=False,
            pwa=False,
            theme=gr.themes.Base(
                primary_hue="blue",
                neutral_hue="slate",
                font=["system-ui", "sans-serif"],
                font_mono=["ui-monospace", "monospace"],
            ),
            css=CSS,
        )
    except OSError as error:
        raise port_taken(port, str(error)) from None
    everyone = bare in ("0.0.0.0", "::")
    shown = "localhost" if everyone else f"[{bare}]" if ":" in bare else bare
    print(f"http://{shown}:{port}  (Ctrl-C stops it)", flush=True)
    if everyone:
        print("whoever reaches this machine over the network can use the page", flush=True)
    try:
        while not stop.wait(0.5):  # in pieces: on Windows Ctrl-C does not interrupt a wait
            pass
    except KeyboardInterrupt:
        pass
    finally:
        page.close(verbose=False)
    print("stopped", flush=True)


if __name__ == "__main__":
    sys.exit(user_facing(main)())
