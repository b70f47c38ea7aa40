"""botocore at the end of a pipe, set up as the mover sets it up.

Each line on stdin is a JSON call [operation, parameters], where bytes are {"base64": "..."}. It is answered by a line:
{"result": ...}, or {"error": code, "status": HTTP status}, or, when the connection failed, {"error": name of the
exception, "status": 0}. URL, keys and region come from the environment.
"""

import base64
import json
import os
import sys
from datetime import datetime
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError


def main() -> None:
    checksums = os.environ.get("CHECKSUMS", "when_required")
    client = botocore.session.get_session().create_client(
        "s3",
        endpoint_url=os.environ["S3_URL"],
        config=Config(
            request_checksum_calculation=checksums,
            response_checksum_validation=checksums,
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path"},
        ),
    )
    for line in sys.stdin:
        operation, parameters = json.loads(line, object_hook=decode)
        try:
            answer = {"result": client._make_api_call(operation, parameters)}
            if "Body" in answer["result"]:
                answer["result"]["Body"] = answer["result"]["Body"].read()
        except ClientError as error:
            answer = {
                "error": error.response["Error"]["Code"],
                "status": error.response["ResponseMetadata"]["HTTPStatusCode"],
            }
        except BotoCoreError as error:
            answer = {"error": type(error).__name__, "status": 0}
        print(json.dumps(answer, default=encode), flush=True)


def decode(value: dict[str, Any]) -> Any:
    return base64.b64decode(value["base64"]) if set(value) == {"base64"} else value


def encode(value: object) -> Any:
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"cannot print {type(value)}")


if __name__ == "__main__":
    main()
