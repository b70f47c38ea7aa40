# ruff: noqa: S101 (a test)
"""Proves that the bench's proof tells right bytes from wrong ones, in the store and on the volume."""

import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "test/bench"))

import check as program
from check import check_folder, check_store
from model import make_model

PREFIX = "models/org/m/"


class Store(SimpleHTTPRequestHandler):
    """Serves the files of a folder as a store does its objects."""

    def log_message(self, format: str, *arguments: object) -> None:
        """Says nothing."""


def flip(place: Path) -> None:
    body = bytearray(place.read_bytes())
    body[len(body) // 2] ^= 1
    place.write_bytes(body)


def cut(place: Path) -> None:
    place.write_bytes(place.read_bytes()[:-1])


# what happens to a file; what is said of an object, of a file on the volume
DAMAGES: list[tuple[Callable[[Path], None], str, str]] = [
    (flip, "has wrong bytes", "has wrong bytes"),
    (cut, "has wrong bytes", "has wrong bytes"),
    (lambda place: place.write_bytes(b""), "has wrong bytes", "has wrong bytes"),
    (Path.unlink, "gives status 404", "is missing"),
]


def run_program(url: str, description: Path) -> tuple[int, str]:
    """Runs it as the bench does: exit code and what it says."""
    with description.open() as file:
        argv = [sys.executable, program.__file__, url, PREFIX]
        answer = subprocess.run(argv, stdin=file, capture_output=True, text=True, check=False)
    return answer.returncode, answer.stdout.strip() or answer.stderr.strip()


def check_all(folder: Path) -> None:
    objects = folder / "store" / "bench" / PREFIX
    model = make_model(objects, 8 * 10**6)
    description = folder / "model.json"
    model.describe(description)
    files = [asdict(file) for file in model.files]
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Store, directory=str(folder / "store")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/bench"

    assert run_program(url, description) == (0, "")
    assert check_store(url, PREFIX, files) == check_folder(model, objects) == []
    for path in ("config.json", "model-00003-of-00004.safetensors"):
        right = (objects / path).read_bytes()
        for damage, of_object, of_file in DAMAGES:
            damage(objects / path)
            assert check_store(url, PREFIX, files) == [f"{path} {of_object}"]
            assert check_folder(model, objects) == [f"{path} {of_file}"]
            print(path, of_object, "/", of_file)
            (objects / path).write_bytes(right)
    flip(objects / "README.md")
    assert run_program(url, description) == (1, "README.md has wrong bytes")
    for place in objects.iterdir():
        place.unlink()
    code, text = run_program(url, description)
    assert (code, len(text.splitlines())) == (1, len(files)), "all are named"
    server.shutdown()
    server.server_close()
    code, text = run_program(url, description)
    assert code == 1, "a store that is gone proves nothing"
    assert "refused" in text, text


with tempfile.TemporaryDirectory() as name:
    check_all(Path(name))
print("done")
