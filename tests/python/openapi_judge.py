"""schemathesis asks a running server what its OpenAPI document says, and what it says cannot be.

`openapi_judge.py URL` fails where an answer is not what the document says, a request that fits it is refused, one that
does not is accepted, or the server fails. The requests are the same every time.
"""

import subprocess
import sys
import tempfile
from pathlib import Path


def main(url: str) -> None:
    config = Path(__file__).with_name("schemathesis.toml")
    program = [Path(sys.executable).with_name("schemathesis"), "--config-file", config, "run", f"{url}/openapi.json"]
    # What it leaves where it runs is nobody's.
    with tempfile.TemporaryDirectory() as folder:
        asked = subprocess.run([*program, "--url", url, "--no-color"], cwd=folder, check=False)
    sys.exit(asked.returncode)


if __name__ == "__main__":
    main(sys.argv[1])
