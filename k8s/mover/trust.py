"""A CA bundle that comes as text, for a pod has no file of its own: the Secret `mover-network` gives it as CA_BUNDLE."""

import os
import ssl
import tempfile
from pathlib import Path

from failure import Failure

# What ca-certificates installs in Debian, and so in python:3.11-slim.
SYSTEM = Path("/etc/ssl/certs/ca-certificates.crt")


def trust() -> None:
    """Has pip and every connection trust CA_BUNDLE (PEM) besides the system's own. Raises Failure("bad-settings")."""
    text = os.environ.get("CA_BUNDLE", "").strip()
    if not text:
        return
    try:
        ssl.create_default_context(cadata=text)
    except (ssl.SSLError, ValueError) as error:
        raise Failure("bad-settings", "CA_BUNDLE holds no certificate in PEM") from error
    system = SYSTEM.read_text() if SYSTEM.exists() else ""
    with tempfile.NamedTemporaryFile("w", suffix=".crt", delete=False) as file:
        file.write(f"{system}\n{text}\n")
    # Both are read before any other name: by `web.ca_bundle` and by pip.
    os.environ["SSL_CERT_FILE"] = os.environ["PIP_CERT"] = file.name
