"""Proves what a contender left behind: every file there, of the right size, with the right SHA-256.

As a program (`check.py STORE_URL PREFIX < model.json`, run at the servers' end of the link) it reads the objects of the store:
exit 0 when all agree, else 1 and one line a mistake.
"""

import hashlib
import http.client
import json
import sys
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, urlsplit

from model import Model

BLOCK = 2**20


def check_folder(model: Model, folder: Path) -> list[str]:
    """The files of `model` that are missing or wrong under `folder`."""
    mistakes = []
    for file in model.files:
        place = folder / file.path
        if not place.is_file():
            mistakes.append(f"{file.path} is missing")
            continue
        with place.open("rb") as body:
            if _digest(body) != file.sha256:
                mistakes.append(f"{file.path} has wrong bytes")
    return mistakes


def check_store(url: str, prefix: str, files: list[dict[str, str]]) -> list[str]:
    """The files that are missing or wrong in the store under `prefix`."""
    mistakes = []
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    for file in files:
        connection.request("GET", f"{urlsplit(url).path}/{quote(prefix + file['path'])}")
        response = connection.getresponse()
        digest = _digest(response)
        if response.status != 200:
            mistakes.append(f"{file['path']} gives status {response.status}")
        elif digest != file["sha256"]:
            mistakes.append(f"{file['path']} has wrong bytes")
    return mistakes


def _digest(body: BinaryIO | http.client.HTTPResponse) -> str:
    digest = hashlib.sha256()
    while block := body.read(BLOCK):
        digest.update(block)
    return digest.hexdigest()


if __name__ == "__main__":
    found = check_store(sys.argv[1], sys.argv[2], json.load(sys.stdin)[0]["files"])
    print("\n".join(found))
    sys.exit(1 if found else 0)
