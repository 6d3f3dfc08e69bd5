"""What the templates in deploy/ may and may not do, read from the templates themselves."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from templates import DEPLOY as TEMPLATES
from templates import EVERY, MAIN, ROOT, as_list

# All that each template allows. A new permission is added here on purpose.
ALLOWED = {
    "backfill.yaml": {
        "lambda:InvokeFunction",
        "s3:AbortMultipartUpload",
        "s3:GetObject",
        "s3:GetObjectVersion",
        "s3:ListBucket",
        "s3:ListMultipartUploadParts",
        "s3:PutInventoryConfiguration",
        "s3:PutObject",
        "states:DescribeExecution",
        "states:RedriveExecution",
        "states:StartExecution",
        "states:StopExecution",
        "sts:AssumeRole",
    },
    "eventbridge.yaml": {"sqs:SendMessage"},
    "queue.yaml": {"sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage", "sqs:SendMessage"},
}


def statements(node: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401 - YAML
    """Every policy statement below `node`."""
    if isinstance(node, dict):
        if "Effect" in node and "Action" in node:
            yield node
        for value in node.values():
            yield from statements(value)
    elif isinstance(node, list):
        for value in node:
            yield from statements(value)


def allowing(name: str) -> list[dict[str, Any]]:
    return [one for one in statements(TEMPLATES[name]["Resources"]) if one["Effect"] == "Allow"]


def test_every_template_is_known() -> None:
    assert set(TEMPLATES) == set(ALLOWED)


def nulls(node: Any, at: str = "") -> Iterator[str]:  # noqa: ANN401 - YAML
    """Where below `node` a value is null."""
    if node is None:
        yield at
    elif isinstance(node, dict):
        for name, value in node.items():
            yield from nulls(value, f"{at}.{name}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from nulls(value, f"{at}[{index}]")


@pytest.mark.parametrize("template", EVERY.values(), ids=EVERY)
def test_no_value_is_null(template: dict[str, Any]) -> None:
    """CloudFormation refuses such a template whole; cfn-lint lets it pass inside a state machine."""
    assert not list(nulls(template))


@pytest.mark.parametrize("name", ALLOWED)
def test_allows_the_listed_actions_and_no_other(name: str) -> None:
    actions = {action for statement in allowing(name) for action in as_list(statement["Action"])}
    assert actions == ALLOWED[name]


@pytest.mark.parametrize("name", ALLOWED)
def test_allows_nothing_on_everything(name: str) -> None:
    for statement in allowing(name):
        for resource in as_list(statement.get("Resource", "of the role")):
            assert resource != "*" and ":::*" not in str(resource), statement
        service = statement.get("Principal", {}).get("Service")
        assert service is None or "Condition" in statement, f"{service} may be asked by another account"


def test_the_queue_reports_failed_messages_and_keeps_them() -> None:
    resources = TEMPLATES["queue.yaml"]["Resources"]
    assert resources["Mapping"]["Properties"]["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert resources["Uploads"]["Properties"]["RedrivePolicy"]["deadLetterTargetArn"] == {
        "Fn::GetAtt": ["DeadLetters", "Arn"]
    }


def test_the_map_sends_what_the_function_takes() -> None:
    """Its items are EventBridge's events, as far as src/lambda/eventbridge.rs reads them."""
    states = TEMPLATES["backfill.yaml"]["Resources"]["Map"]["Properties"]["Definition"]["States"]
    event = states["EachPhoto"]["ItemSelector"]
    assert (event["source"], event["detail-type"]) == ("aws.s3", "Object Created")
    assert set(event["detail"]) == {"bucket", "object"}
    assert event["detail"]["object"] == {"key.$": "$$.Map.Item.Value.Key"}


def test_no_parameter_stands_where_the_map_wants_a_number() -> None:
    """CloudFormation would put text there."""
    template = TEMPLATES["backfill.yaml"]
    definition = str(template["Resources"]["Map"]["Properties"]["Definition"])
    for name, parameter in template["Parameters"].items():
        assert parameter["Type"] != "Number" or name not in definition.replace(f"{name}Path", ""), name


def test_the_map_retries_the_errors_that_may_pass() -> None:
    states = TEMPLATES["backfill.yaml"]["Resources"]["Map"]["Properties"]["Definition"]["States"]
    retries = states["EachPhoto"]["ItemProcessor"]["States"]["Parse"]["Retry"]
    ours = {error for retry in retries for error in retry["ErrorEquals"] if error.islower()}
    # The variants that `Error::retryable` lists, by their codes in the one table.
    source = (ROOT / "src/error.rs").read_text()
    body = re.search(r"fn retryable.*?matches!\(self, (.*?)\)\n", source, re.DOTALL)
    assert body is not None
    variants = re.findall(r"Self::(\w+)", body[1])
    table = (ROOT / "src/http/problem.rs").read_text()
    codes = {re.search(rf'Error::{variant} {{ \.\. }} => \(.*?, "(\w+)"\)', table)[1] for variant in variants}
    assert ours == codes


@pytest.mark.parametrize("name", ALLOWED)
def test_every_parameter_is_used_and_every_output_named_exists(name: str) -> None:
    template = TEMPLATES[name]
    text = str({key: value for key, value in template.items() if key != "Parameters"})
    for parameter, described in template["Parameters"].items():
        assert f"'Ref': '{parameter}'" in text or f"${{{parameter}}}" in text, parameter
        for output in re.findall(r"(\w+) among the outputs", described.get("Description", "")):
            assert output in MAIN["Outputs"], output
