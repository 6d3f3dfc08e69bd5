"""What the templates in deploy/ may and may not do, read from the templates themselves."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from templates import DEPLOY as TEMPLATES
from templates import EVERY, MAIN, ROOT, as_list, of_type, values_of

FUNCTION = "arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:function:${FunctionName}"
INPUT = "arn:${AWS::Partition}:s3:::${InputBucketName}"
CHILDREN = "arn:${AWS::Partition}:states:${AWS::Region}:${AWS::AccountId}:execution:${Map.Name}/*"
OWN_ACCOUNT = "StringEquals aws:SourceAccount AWS::AccountId"
BY_RULE = "ArnEquals aws:SourceArn Rule.Arn"

# All that each template allows: who (a role, or a service that is trusted), action, on what, on which condition. A new
# permission is added here on purpose.
ALLOWED = {
    "backfill.yaml": {
        ("states.amazonaws.com", "sts:AssumeRole", "MapRole", OWN_ACCOUNT),
        ("MapRole", "lambda:InvokeFunction", FUNCTION, ""),
        ("MapRole", "s3:ListBucket", INPUT, ""),
        ("MapRole", "s3:PutObject", "${Records.Arn}/map/*", ""),
        ("MapRole", "s3:GetObject", "${Records.Arn}/map/*", ""),
        ("MapRole", "s3:ListMultipartUploadParts", "${Records.Arn}/map/*", ""),
        ("MapRole", "s3:AbortMultipartUpload", "${Records.Arn}/map/*", ""),
        ("MapRole", "states:StartExecution", "Map", ""),
        ("MapRole", "states:DescribeExecution", CHILDREN, ""),
        ("MapRole", "states:StopExecution", CHILDREN, ""),
        ("MapRole", "states:RedriveExecution", CHILDREN, ""),
        ("batchoperations.s3.amazonaws.com", "sts:AssumeRole", "BatchRole", OWN_ACCOUNT),
        ("BatchRole", "lambda:InvokeFunction", FUNCTION, ""),
        ("BatchRole", "s3:PutInventoryConfiguration", INPUT, ""),
        ("BatchRole", "s3:GetObject", "${Records.Arn}/manifests/*", ""),
        ("BatchRole", "s3:GetObjectVersion", "${Records.Arn}/manifests/*", ""),
        ("BatchRole", "s3:PutObject", "${Records.Arn}/manifests/*", ""),
        ("BatchRole", "s3:PutObject", "${Records.Arn}/reports/*", ""),
    },
    "eventbridge.yaml": {
        ("events.amazonaws.com", "sqs:SendMessage", "Undelivered.Arn", BY_RULE),
        ("events.amazonaws.com", "lambda:InvokeFunction", "FunctionName", "SourceArn Rule.Arn"),
    },
    "queue.yaml": {
        ("s3.amazonaws.com", "sqs:SendMessage", "Uploads.Arn", f"{OWN_ACCOUNT}, ArnEquals aws:SourceArn {INPUT}"),
        ("events.amazonaws.com", "sqs:SendMessage", "Uploads.Arn", BY_RULE),
        ("FunctionRoleName", "sqs:ReceiveMessage", "Uploads.Arn", ""),
        ("FunctionRoleName", "sqs:DeleteMessage", "Uploads.Arn", ""),
        ("FunctionRoleName", "sqs:GetQueueAttributes", "Uploads.Arn", ""),
    },
}
# Buckets refuse what does not come over TLS.
DENIED = {
    "backfill.yaml": {
        ("*", "s3:*", "Records.Arn", "Bool aws:SecureTransport false"),
        ("*", "s3:*", "${Records.Arn}/*", "Bool aws:SecureTransport false"),
    },
    "eventbridge.yaml": set(),
    "queue.yaml": set(),
}

Grant = tuple[str, str, str, str]


def text(value: Any) -> str:  # noqa: ANN401 - YAML
    """A value of a policy as it stands in the lists above."""
    match value:
        case str():
            return value
        case {"Ref": str(name), **rest} if not rest:
            return name
        case {"Fn::GetAtt": [*path], **rest} if not rest:
            return ".".join(path)
        case {"Fn::Sub": str(pattern), **rest} if not rest:
            return pattern
    raise AssertionError(f"a value of a form that this test does not know: {value}")


def statements_of(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A policy's statements, those under a condition of the template too."""
    assert set(document) == {"Version", "Statement"}
    for one in as_list(document["Statement"]):
        match one:
            case {"Fn::If": [_, statement, {"Ref": "AWS::NoValue"}]}:
                yield statement
            case _:
                yield one


def grants_of(statement: dict[str, Any], roles: list[str]) -> Iterator[Grant]:
    """What a statement says of `roles`, or, where it names principals itself, of those."""
    # `NotAction`, `NotResource` and the like mean what they do not name.
    assert set(statement) <= {"Effect", "Principal", "Action", "Resource", "Condition"}, statement
    match statement.get("Principal"):
        case None:
            who = roles
        case {"Service": service, **rest} if not rest:
            who = as_list(service)
        case principal:
            who = [text(principal)]
    assert who, statement
    conditions = [
        f"{operator} {key} {text(value)}"
        for operator, pairs in statement.get("Condition", {}).items()
        for key, value in pairs.items()
    ]
    for one in who:
        for action in as_list(statement["Action"]):
            # A trust policy is about the role that it stands in.
            for resource in as_list(statement["Resource"]) if "Resource" in statement else roles:
                yield one, action, text(resource), ", ".join(conditions)


def policies(template: dict[str, Any]) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Every policy document, and the roles that it is about; none where it is a bucket's or a queue's."""
    for name, resource in template["Resources"].items():
        properties = resource.get("Properties", {})
        match resource["Type"]:
            case "AWS::IAM::Role":
                yield properties["AssumeRolePolicyDocument"], [name]
                for policy in properties["Policies"]:
                    yield policy["PolicyDocument"], [name]
            case "AWS::IAM::RolePolicy":
                yield properties["PolicyDocument"], [text(properties["RoleName"])]
            case "AWS::IAM::Policy":
                yield properties["PolicyDocument"], [text(role) for role in properties["Roles"]]
            case "AWS::S3::BucketPolicy" | "AWS::SQS::QueuePolicy":
                yield properties["PolicyDocument"], []


def grants(template: dict[str, Any], effect: str) -> list[Grant]:
    """All that a template allows or denies."""
    found = [
        grant
        for document, roles in policies(template)
        for statement in statements_of(document)
        if statement["Effect"] == effect
        for grant in grants_of(statement, roles)
    ]
    if effect == "Allow":
        for permission in of_type(template, "AWS::Lambda::Permission").values():
            properties = dict(permission["Properties"])
            who, action, on = (text(properties.pop(key)) for key in ("Principal", "Action", "FunctionName"))
            found.append((who, action, on, ", ".join(f"{key} {text(value)}" for key, value in properties.items())))
    return found


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
def test_allows_what_is_listed_and_nothing_else(name: str) -> None:
    for effect, listed in (("Allow", ALLOWED), ("Deny", DENIED)):
        found = grants(TEMPLATES[name], effect)
        assert len(found) == len(set(found)), "granted twice"
        assert set(found) == listed[name]


@pytest.mark.parametrize("name", ALLOWED)
def test_policies_stand_where_they_are_looked_for(name: str) -> None:
    resources = TEMPLATES[name]["Resources"]
    looked_at = [statement for document, _ in policies(TEMPLATES[name]) for statement in statements_of(document)]
    assert len(list(values_of(resources, "Effect"))) == len(looked_at)
    assert not list(values_of(resources, "ManagedPolicyArns"))


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
    body = re.search(r"fn retryable.*?matches!\(\s*self,(.*?)\)\n", source, re.DOTALL)
    assert body is not None
    variants = re.findall(r"Self::(\w+)", body[1])
    codes = {re.search(rf'Self::{variant} {{ \.\. }} => \(.*?, "(\w+)"\)', source)[1] for variant in variants}
    assert ours == codes


@pytest.mark.parametrize("name", ALLOWED)
def test_every_parameter_is_used_and_every_output_named_exists(name: str) -> None:
    template = TEMPLATES[name]
    text = str({key: value for key, value in template.items() if key != "Parameters"})
    for parameter, described in template["Parameters"].items():
        assert f"'Ref': '{parameter}'" in text or f"${{{parameter}}}" in text, parameter
        for output in re.findall(r"(\w+) among the outputs", described.get("Description", "")):
            assert output in MAIN["Outputs"], output
