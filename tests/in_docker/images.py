"""Images made on this machine: no registry is asked for any.

Lambda's own base image (Amazon Linux 2023) is used where Docker has it already; otherwise a stand-in of Debian's
packages gets its name. That one has a newer glibc (2.36, Amazon Linux has 2.34), so what the package asks of glibc is
checked by scripts/al2023.py and not here.
"""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import docker
from docker.models.images import Image

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".runtime/docker"
ARCH = "arm64" if subprocess.check_output(["uname", "-m"], text=True).strip() == "aarch64" else "x86_64"

# What `sam local` starts a function of `provided.al2023` from.
LAMBDA = f"public.ecr.aws/lambda/provided:al2023-{ARCH}"
PYTHON = "m2fp-lambda-test/python:bookworm"
LABEL = "m2fp.stand-in"

SUITE = "bookworm"
PYTHON_VERSION = "3.11"
# Amazon Linux has certificates of authorities too; Debian's are put together by a script, which is not run here.
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")


def lambda_base(client: docker.DockerClient) -> Image:
    """Lambda's base image, or its stand-in."""
    hooks = [
        'mkdir -p "$1/etc/ssl/certs"',
        f"copy-in {AUTHORITIES} /etc/ssl/certs",
        # The user of the container image.
        'echo "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin" > "$1/etc/passwd"',
    ]
    return _image(client, LAMBDA, ("base-files", "coreutils", "dash", "libstdc++6"), hooks)


def python(client: docker.DockerClient) -> Image:
    """Debian's Python, for moto."""
    return _image(client, PYTHON, ("python3",), [])


def is_stand_in(image: Image) -> bool:
    return LABEL in (image.labels or {})


def moto() -> Path:
    """A folder with moto's S3 server for that Python, with the versions that are pinned for this machine's."""
    folder = CACHE / f"moto-{PYTHON_VERSION}"
    done = folder / ".done"
    pins = (ROOT / "tools/requirements.txt").read_text()
    if not done.exists() or done.read_text() != pins:
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--no-compile"]
        command += ["--upgrade", f"--target={folder}", f"--python-version={PYTHON_VERSION}", "--only-binary=:all:"]
        command += ["--constraint=tools/requirements.txt", "moto[s3]", "flask", "flask-cors"]
        subprocess.run(command, cwd=ROOT, check=True)
        done.write_text(pins)
    return folder


def _image(client: docker.DockerClient, name: str, packages: Iterable[str], hooks: Iterable[str]) -> Image:
    """The image of that name, made of Debian's packages where Docker has none. They are unpacked and not set up."""
    try:
        return client.images.get(name)
    except docker.errors.ImageNotFound:
        pass
    CACHE.mkdir(parents=True, exist_ok=True)
    archive = CACHE / f"{name.replace('/', '-').replace(':', '-')}.tar"
    command = ["mmdebstrap", "--quiet", "--variant=extract", f"--include={','.join(packages)}"]
    command += [f"--extract-hook={hook}" for hook in hooks]
    try:
        subprocess.run([*command, SUITE, archive], check=True)
    except FileNotFoundError:
        raise SystemExit("mmdebstrap is missing, which makes the base image (Debian, Ubuntu: mmdebstrap)") from None
    repository, tag = name.rsplit(":", 1)
    client.api.import_image(str(archive), repository=repository, tag=tag, changes=[f"LABEL {LABEL}={SUITE}"])
    archive.unlink()
    return client.images.get(name)
