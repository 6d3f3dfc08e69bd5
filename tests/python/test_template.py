"""What template.yaml may and may not do, read from the template itself."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from samcli.yamlhelper import yaml_parse

ROOT = Path(__file__).parents[2]
TEMPLATE = yaml_parse((ROOT / "template.yaml").read_text())
RESOURCES: dict[str, Any] = TEMPLATE["Resources"]
FUNCTIONS = ("HttpFunction", "S3Function")

# All that the functions may do. A new permission is added here on purpose.
ALLOWED = {
    "sts:AssumeRole",
    "logs:CreateLogStream",
    "logs:PutLogEvents",
    "s3:GetObject",
    "s3:GetObjectVersion",
    "s3:ListBucket",
    "s3:PutObject",
    "s3:DeleteObject",
    "sqs:SendMessage",
}


def of_type(kind: str) -> dict[str, Any]:
    return {name: resource for name, resource in RESOURCES.items() if resource["Type"] == kind}


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


def statements(effect: str) -> list[dict[str, Any]]:
    found = [one for group in values_of(RESOURCES, "Statement") for one in as_list(group)]
    return [one for one in found if one["Effect"] == effect]


def environment(function: str) -> dict[str, Any]:
    common = TEMPLATE["Globals"]["Function"]["Environment"]["Variables"]
    return common | RESOURCES[function]["Properties"]["Environment"]["Variables"]


def test_allows_the_listed_actions_and_no_other() -> None:
    actions = {action for statement in statements("Allow") for action in as_list(statement["Action"])}
    assert actions == ALLOWED


def test_allows_nothing_on_everything() -> None:
    for statement in statements("Allow"):
        resources = as_list(statement.get("Resource", "of the role"))
        assert "*" not in resources, statement
        for resource in resources:
            # A bucket is named before any star.
            text = str(resource)
            assert ":::*" not in text
            assert "*" not in text or "${Bucket}/" in text or "${UploadBucket.Arn}/uploads/*" in text, statement


def test_writes_only_under_the_prefix() -> None:
    for statement in statements("Allow"):
        if {"s3:PutObject", "s3:DeleteObject"} & set(as_list(statement["Action"])):
            where = str(statement["Resource"])
            assert "${Bucket}/${OutputPrefix}*" in where or "${UploadBucket.Arn}/uploads/*" in where


def test_uploads_are_signed_for_by_one_role_and_gone_after_a_day() -> None:
    signing = RESOURCES["SignUploads"]["Properties"]
    assert signing["Roles"] == [{"Ref": "HttpRole"}]
    (statement,) = signing["PolicyDocument"]["Statement"]
    assert set(statement["Action"]) == {"s3:PutObject", "s3:GetObject"}
    assert environment("HttpFunction")["M2FP_UPLOAD_PREFIX"] == "uploads/"
    assert "M2FP_UPLOAD_BUCKET" not in environment("S3Function")
    bucket = RESOURCES["UploadBucket"]["Properties"]
    assert {"Id": "expire", "Status": "Enabled", "ExpirationInDays": 1} in bucket["LifecycleConfiguration"]["Rules"]
    # No event of its photos reaches a function: they are parsed when their owner asks.
    assert "NotificationConfiguration" not in bucket
    (rule,) = bucket["CorsConfiguration"]["CorsRules"]
    assert (rule["AllowedMethods"], rule["AllowedHeaders"]) == (["PUT"], ["content-type"])


def test_roles_are_the_functions_own() -> None:
    roles = {str(RESOURCES[name]["Properties"]["Role"]) for name in FUNCTIONS}
    assert len(roles) == len(FUNCTIONS)
    assert not list(values_of(RESOURCES, "ManagedPolicyArns"))


def test_the_public_gets_in_only_by_token() -> None:
    assert RESOURCES["HttpUrl"]["Properties"]["AuthType"] == {"Fn::If": ["ByToken", "NONE", "AWS_IAM"]}
    assert RESOURCES["HttpApiRoute"]["Properties"]["AuthorizationType"] == {"Fn::If": ["ByToken", "NONE", "AWS_IAM"]}
    for name, permission in of_type("AWS::Lambda::Permission").items():
        if permission["Properties"]["Principal"] == "*":
            condition = TEMPLATE["Conditions"][permission["Condition"]]
            assert {"Condition": "ByToken"} in condition["Fn::And"], name
        else:
            assert "SourceArn" in permission["Properties"], name
    assert TEMPLATE["Parameters"]["BearerToken"]["NoEcho"] is True
    assert "BearerToken" not in str(TEMPLATE["Outputs"])


@pytest.mark.parametrize("name", of_type("AWS::S3::Bucket"))
def test_buckets_are_private_encrypted_and_kept(name: str) -> None:
    bucket = RESOURCES[name]
    properties = bucket["Properties"]
    assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
    assert properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert properties["LifecycleConfiguration"]["Rules"][0]["AbortIncompleteMultipartUpload"]
    assert bucket["DeletionPolicy"] == "Retain"
    policies = [one["Properties"] for one in of_type("AWS::S3::BucketPolicy").values()]
    (policy,) = [one for one in policies if one["Bucket"] == {"Ref": name}]
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert statement["Effect"] == "Deny"
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_outputs_trigger_nothing() -> None:
    triggering = [
        name for name, one in of_type("AWS::S3::Bucket").items() if "NotificationConfiguration" in one["Properties"]
    ]
    assert triggering == ["InputBucket"]
    assert "InputBucket" not in str(environment("S3Function"))
    assert "OutputsDoNotTrigger" in TEMPLATE["Rules"]


def test_the_input_bucket_is_the_one_that_may_invoke() -> None:
    name = RESOURCES["InputBucket"]["Properties"]["BucketName"]["Fn::Sub"]
    source = RESOURCES["S3MayInvoke"]["Properties"]["SourceArn"]["Fn::If"][1]["Fn::Sub"]
    assert source == [f"arn:${{AWS::Partition}}:s3:::{name[0]}", name[1]]


def test_failed_events_are_kept() -> None:
    retries = RESOURCES["S3Retries"]["Properties"]
    assert retries["FunctionName"] == {"Ref": "S3Function"}
    assert retries["DestinationConfig"]["OnFailure"]["Destination"] == {"Fn::GetAtt": ["DeadLetters", "Arn"]}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_one_package(name: str) -> None:
    assert RESOURCES[name]["Metadata"] == {"BuildMethod": "makefile"}
    assert "CodeUri" not in RESOURCES[name]["Properties"]
    assert re.search(rf"^build-.*\bbuild-{name}\b|^build-{name}\b", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_variable_is_a_setting(name: str) -> None:
    settings = set(re.findall(r'name: "([A-Z0-9_]+)"', (ROOT / "src/config.rs").read_text()))
    variables = environment(name)
    assert variables["ORT_DISABLE_TELEMETRY"] == "1"
    ours = {variable.removeprefix("M2FP_") for variable in variables if variable.startswith("M2FP_")}
    assert ours <= settings


def test_logs_expire() -> None:
    groups = of_type("AWS::Logs::LogGroup").values()
    assert all(group["Properties"]["RetentionInDays"] == {"Ref": "LogRetentionDays"} for group in groups)
    assert len(groups) == len(FUNCTIONS)


def test_every_parameter_is_used_and_grouped() -> None:
    text = str({key: value for key, value in TEMPLATE.items() if key not in ("Parameters", "Metadata")})
    groups = TEMPLATE["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    grouped = [name for group in groups for name in group["Parameters"]]
    assert sorted(grouped) == sorted(TEMPLATE["Parameters"])
    for name in TEMPLATE["Parameters"]:
        assert f"'Ref': '{name}'" in text or f"${{{name}}}" in text, name


def test_no_yaml_aliases() -> None:
    """CloudFormation does not read them."""
    text = (ROOT / "template.yaml").read_text()
    assert not re.search(r":\s+[&*]\w+\s*$", text, re.MULTILINE)


def test_memory_near_the_limit_is_a_metric_of_both_functions() -> None:
    filters = [one["Properties"] for one in of_type("AWS::Logs::MetricFilter").values()]
    assert [one["LogGroupName"]["Ref"] for one in filters] == ["HttpLogs", "S3Logs"]
    said = (ROOT / "src/watch.rs").read_text()
    for one in filters:
        message = re.fullmatch(r'{ \$\.message = "(.+)" }', one["FilterPattern"])
        assert message is not None and f'"{message[1]}"' in said
