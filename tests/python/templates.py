"""The project's CloudFormation templates, for the tests that read them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from samcli.yamlhelper import yaml_parse

ROOT = Path(__file__).parents[2]
MAIN: dict[str, Any] = yaml_parse((ROOT / "template.yaml").read_text())
# Those in deploy/, by the names of their files.
DEPLOY: dict[str, dict[str, Any]] = {
    path.name: yaml_parse(path.read_text()) for path in sorted((ROOT / "deploy").glob("*.yaml"))
}
EVERY = {"template.yaml": MAIN} | DEPLOY


def of_type(template: dict[str, Any], kind: str) -> dict[str, Any]:
    """A template's resources of one type, by their names."""
    return {name: resource for name, resource in template["Resources"].items() if resource["Type"] == kind}


def as_list(value: Any) -> list[Any]:  # noqa: ANN401 - YAML
    return value if isinstance(value, list) else [value]


def values_of(node: Any, key: str) -> Iterator[Any]:  # noqa: ANN401 - YAML
    """Every value that stands under `key` anywhere below `node`."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield value
            yield from values_of(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from values_of(value, key)
