"""Write the licence texts of every crate that is linked into the binary: `crate_licences.py TARGET FILE [FEATURE…]`.

The package carries copies of these crates, and most licences ask that their text comes along.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

TEXTS = re.compile(r"(licen[cs]e|copying|notice|unlicense)[^/]*", re.IGNORECASE)


def linked_packages(target: str, features: list[str]) -> list[dict[str, Any]]:
    """The packages of the graph of normal dependencies for `target`, this one left out."""
    command = ["cargo", "metadata", "--locked", "--format-version=1", f"--filter-platform={target}"]
    command += [f"--features={','.join(features)}"] if features else []
    metadata = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    edges = {node["id"]: node["deps"] for node in metadata["resolve"]["nodes"]}
    root = metadata["resolve"]["root"]
    seen, waiting = {root}, [root]
    while waiting:
        for edge in edges[waiting.pop()]:
            normal = any(kind["kind"] is None for kind in edge["dep_kinds"])
            if normal and edge["pkg"] not in seen:
                seen.add(edge["pkg"])
                waiting.append(edge["pkg"])
    packages = [package for package in metadata["packages"] if package["id"] in seen - {root}]
    return sorted(packages, key=lambda package: (package["name"], package["version"]))


def texts(package: dict[str, Any]) -> list[str]:
    """The licence files that the package ships."""
    folder = Path(package["manifest_path"]).parent
    files = sorted(file for file in folder.iterdir() if file.is_file() and TEXTS.fullmatch(file.name))
    return [file.read_text(encoding="utf-8", errors="replace").strip() for file in files]


def main() -> int:
    target, destination = sys.argv[1], Path(sys.argv[2])
    packages = linked_packages(target, sys.argv[3:])
    # The same text serves many crates; it is written once, under the names of all of them.
    users: dict[str, list[str]] = {}
    for package in packages:
        for text in texts(package):
            users.setdefault(text, []).append(f"{package['name']} {package['version']}")
    lines = ["Rust crates linked into `bootstrap`, with the licences they state:", ""]
    lines += [f"{package['name']} {package['version']}: {package['license']}" for package in packages]
    for text, names in users.items():
        lines += ["", "=" * 100, ", ".join(names), "=" * 100, "", text]
    destination.parent.mkdir(parents=True, exist_ok=True)
    destination.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
