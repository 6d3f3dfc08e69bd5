"""What template.yaml may and may not do, read from the template itself."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import templates
from templates import MAIN as TEMPLATE
from templates import ROOT, as_list, values_of

RESOURCES: dict[str, Any] = TEMPLATE["Resources"]
FUNCTIONS = ("HttpFunction", "S3Function")

INPUT = "arn:${AWS::Partition}:s3:::InputBucket|ExistingInputBucket"
OUTPUT = "arn:${AWS::Partition}:s3:::OutputBucket|ExistingOutputBucket"

# All that the functions may do: role, action, on what. A new permission is added here on purpose.
ALLOWED = {
    ("HttpRole", "logs:CreateLogStream", "HttpLogs.Arn"),
    ("HttpRole", "logs:PutLogEvents", "HttpLogs.Arn"),
    ("HttpRole", "s3:GetObject", "${UploadBucket.Arn}/uploads/*"),
    ("HttpRole", "s3:PutObject", "${UploadBucket.Arn}/uploads/*"),
    ("HttpRole", "s3:ListBucket", "UploadBucket.Arn"),
    ("S3Role", "logs:CreateLogStream", "S3Logs.Arn"),
    ("S3Role", "logs:PutLogEvents", "S3Logs.Arn"),
    ("S3Role", "sqs:SendMessage", "DeadLetters.Arn"),
    # Where the bucket of uploads has a key of its own.
    ("HttpRole", "kms:GenerateDataKey", "InputKeyArn"),
} | {
    (role, action, where)
    for role in ("HttpRole", "S3Role")
    for action, where in (
        ("s3:GetObject", f"{INPUT}/*"),
        ("s3:GetObjectVersion", f"{INPUT}/*"),
        ("s3:ListBucket", INPUT),
        ("s3:GetObject", f"{OUTPUT}/${{OutputPrefix}}*"),
        ("s3:PutObject", f"{OUTPUT}/${{OutputPrefix}}*"),
        ("s3:DeleteObject", f"{OUTPUT}/${{OutputPrefix}}*"),
        ("s3:ListBucket", OUTPUT),
        # Where there is an access point, are keys, a VPC or traces.
        ("s3:GetObject", "${OutputAccessPointArn}/object/${OutputPrefix}*"),
        ("s3:PutObject", "${OutputAccessPointArn}/object/${OutputPrefix}*"),
        ("s3:DeleteObject", "${OutputAccessPointArn}/object/${OutputPrefix}*"),
        ("s3:ListBucket", "OutputAccessPointArn"),
        ("kms:Decrypt", "InputKeyArn"),
        ("kms:Decrypt", "OutputKeyArn"),
        ("kms:GenerateDataKey", "OutputKeyArn"),
    )
}
# What cannot be narrowed to a resource, and under which condition of the template it is allowed at all.
ANYWHERE = {
    "ec2:CreateNetworkInterface": "InVpc",
    "ec2:DescribeNetworkInterfaces": "InVpc",
    "ec2:DescribeSubnets": "InVpc",
    "ec2:DeleteNetworkInterface": "InVpc",
    "ec2:AssignPrivateIpAddresses": "InVpc",
    "ec2:UnassignPrivateIpAddresses": "InVpc",
    "xray:PutTraceSegments": "Trace",
    "xray:PutTelemetryRecords": "Trace",
}
ALLOWED |= {(role, action, f"* if {when}") for role in ("HttpRole", "S3Role") for action, when in ANYWHERE.items()}


def of_type(kind: str) -> dict[str, Any]:
    return templates.of_type(TEMPLATE, kind)


def statements(effect: str) -> list[dict[str, Any]]:
    found = [one for group in values_of(RESOURCES, "Statement") for one in as_list(group)]
    return [one for one in found if one["Effect"] == effect]


def environment(function: str) -> dict[str, Any]:
    common = TEMPLATE["Globals"]["Function"]["Environment"]["Variables"]
    return common | RESOURCES[function]["Properties"]["Environment"]["Variables"]


def place(resource: Any) -> str:  # noqa: ANN401 - YAML
    """A statement's resource as text; a bucket that is made or given is `made|given`."""
    match resource:
        case {"Fn::GetAtt": [*path]}:
            return ".".join(path)
        case {"Ref": str(name)}:
            return name
        case {"Fn::Sub": str(text)}:
            return text
        case {"Fn::Sub": [text, {"Bucket": {"Fn::If": [_, {"Ref": made}, {"Ref": given}]}}]}:
            return text.replace("${Bucket}", f"{made}|{given}")
    raise AssertionError(f"a resource of a form that this test does not know: {resource}")


def own_policies(role: dict[str, Any]) -> list[dict[str, Any]]:
    """The policies that a role always has."""
    return [policy for policy in role["Policies"] if "Fn::If" not in policy]


def conditional_policies(role: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The policies that a role has under a condition of the template, with its name."""
    found = [policy["Fn::If"] for policy in role["Policies"] if "Fn::If" in policy]
    assert all(otherwise == {"Ref": "AWS::NoValue"} for _, _, otherwise in found)
    return [(condition, policy) for condition, policy, _ in found]


def granted() -> Iterator[tuple[str, str, str]]:
    """Role, action and resource of everything that is allowed."""
    for name, one in RESOURCES.items():
        properties = one.get("Properties", {})
        match one["Type"]:
            case "AWS::IAM::Role":
                roles, documents = [name], [policy["PolicyDocument"] for policy in own_policies(properties)]
                for condition, policy in conditional_policies(properties):
                    (statement,) = policy["PolicyDocument"]["Statement"]
                    assert (statement["Effect"], statement["Resource"]) == ("Allow", "*")
                    yield from ((name, action, f"* if {condition}") for action in statement["Action"])
            case "AWS::IAM::Policy":
                roles, documents = [role["Ref"] for role in properties["Roles"]], [properties["PolicyDocument"]]
            case "AWS::IAM::RolePolicy":
                roles, documents = [properties["RoleName"]["Ref"]], [properties["PolicyDocument"]]
            case _:
                continue
        for statement in (one for document in documents for one in document["Statement"]):
            # `NotAction` and the like allow what they do not name.
            assert set(statement) == {"Effect", "Action", "Resource"}, statement
            assert statement["Effect"] == "Allow"
            for action in as_list(statement["Action"]):
                yield from ((role, action, place(where)) for role in roles for where in as_list(statement["Resource"]))


def test_allows_what_is_listed_and_nothing_else() -> None:
    found = list(granted())
    assert len(found) == len(set(found)), "granted twice"
    assert set(found) == ALLOWED
    assert not any("*" in action for _, action, _ in found)
    # What is granted by a policy of its own is granted where its condition holds.
    conditions = {name: one.get("Condition") for name, one in of_type("AWS::IAM::Policy").items()}
    assert conditions == {
        "SignUploads": None,
        "ReadPhotos": None,
        "WriteMasks": None,
        "WriteThroughAccessPoint": "UseAccessPoint",
        "UseInputKey": "HasInputKey",
        "UseInputKeyForUploads": "HasInputKey",
        "UseOutputKey": "HasOutputKey",
    }


def test_only_lambda_takes_the_roles() -> None:
    for name, role in of_type("AWS::IAM::Role").items():
        (statement,) = role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        expected = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        assert statement == expected, name


def test_policies_stand_where_they_are_looked_for() -> None:
    """Every `Statement` of the template is a role's, a trust or a bucket's denial; all are checked."""
    in_roles = sum(len(as_list(one)) for kind in ("Role", "Policy", "RolePolicy") for one in iam(kind))
    denials = statements("Deny")
    assert len(statements("Allow")) == in_roles
    for denial in denials:
        assert denial["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert not any("Policies" in RESOURCES[name]["Properties"] for name in FUNCTIONS)


def iam(kind: str) -> Iterator[Any]:
    for one in of_type(f"AWS::IAM::{kind}").values():
        yield from values_of(one, "Statement")


def test_uploads_are_signed_for_by_one_role_and_gone_after_a_day() -> None:
    signing = RESOURCES["SignUploads"]["Properties"]
    assert signing["Roles"] == [{"Ref": "HttpRole"}]
    assert {action for role, action, where in granted() if "UploadBucket" in where} == {
        "s3:PutObject",
        "s3:GetObject",
        "s3:ListBucket",
    }
    assert environment("HttpFunction")["M2FP_UPLOAD_PREFIX"] == "uploads/"
    assert "M2FP_UPLOAD_BUCKET" not in environment("S3Function")
    bucket = RESOURCES["UploadBucket"]["Properties"]
    assert {"Id": "expire", "Status": "Enabled", "ExpirationInDays": 1} in bucket["LifecycleConfiguration"]["Rules"]
    # No event of its photos reaches a function: they are parsed when their owner asks.
    assert "NotificationConfiguration" not in bucket
    (rule,) = bucket["CorsConfiguration"]["CorsRules"]
    assert (rule["AllowedMethods"], rule["AllowedHeaders"]) == (["PUT"], ["content-type"])


def test_pages_may_follow_links_to_answers_and_do_nothing_else() -> None:
    (rule,) = RESOURCES["OutputBucket"]["Properties"]["CorsConfiguration"]["CorsRules"]
    assert rule["AllowedMethods"] == ["GET"]
    assert "AllowedHeaders" not in rule


def test_roles_are_the_functions_own() -> None:
    roles = {str(RESOURCES[name]["Properties"]["Role"]) for name in FUNCTIONS}
    assert len(roles) == len(FUNCTIONS)
    assert not list(values_of(RESOURCES, "ManagedPolicyArns"))


def test_the_public_gets_in_only_by_token() -> None:
    assert RESOURCES["HttpUrl"]["Properties"]["AuthType"] == {"Fn::If": ["ByToken", "NONE", "AWS_IAM"]}
    assert RESOURCES["HttpApiRoute"]["Properties"]["AuthorizationType"] == {"Fn::If": ["ByToken", "NONE", "AWS_IAM"]}
    for path in RESOURCES["HttpRest"]["Properties"]["Body"]["paths"].values():
        method = path["x-amazon-apigateway-any-method"]
        assert method["x-amazon-apigateway-auth"] == {"type": {"Fn::If": ["ByToken", "NONE", "AWS_IAM"]}}
    for name, permission in of_type("AWS::Lambda::Permission").items():
        if permission["Properties"]["Principal"] == "*":
            condition = TEMPLATE["Conditions"][permission["Condition"]]
            assert {"Condition": "ByToken"} in condition["Fn::And"], name
        else:
            assert "SourceArn" in permission["Properties"], name
    assert TEMPLATE["Parameters"]["BearerToken"]["NoEcho"] is True
    assert "BearerToken" not in str(TEMPLATE["Outputs"])


@pytest.mark.parametrize(
    ("door", "condition", "resources"),
    [
        ("HttpApi", "UseApi", "ApiGatewayV2::"),
        ("RestApi", "UseRest", "ApiGateway::"),
        ("FunctionUrl", "UseUrl", "Lambda::Url"),
    ],
)
def test_one_door_is_made(door: str, condition: str, resources: str) -> None:
    parameter = TEMPLATE["Parameters"]["HttpDoor"]
    assert door in parameter["AllowedValues"]
    assert parameter["Default"] == "HttpApi"
    assert TEMPLATE["Conditions"][condition] == {"Fn::Equals": [{"Ref": "HttpDoor"}, door]}
    made = {name: one for name, one in RESOURCES.items() if one["Type"].startswith(f"AWS::{resources}")}
    assert made
    for name, one in made.items():
        asked = one["Condition"]
        rests = TEMPLATE["Conditions"][asked].get("Fn::And", [])
        assert asked == condition or {"Condition": condition} in rests, name


def test_the_rest_door_takes_photos_at_the_root_and_below() -> None:
    api = RESOURCES["HttpRest"]["Properties"]
    assert api["BinaryMediaTypes"] == ["*/*"]
    assert api["EndpointConfiguration"] == {"Types": ["REGIONAL"]}
    paths = api["Body"]["paths"]
    assert set(paths) == {"/", "/{proxy+}"}
    for path in paths.values():
        (method,) = path.values()
        assert set(path) == {"x-amazon-apigateway-any-method"}
        assert method["security"] == {"Fn::If": ["ByKey", [{"api_key": []}], []]}
        integration = method["x-amazon-apigateway-integration"]
        assert (integration["type"], integration["httpMethod"]) == ("aws_proxy", "POST")
        condition, streamed, whole = integration["uri"]["Fn::If"]
        assert condition == "Stream"
        assert streamed["Fn::Sub"].endswith("/2021-11-15/functions/${HttpFunction.Arn}/response-streaming-invocations")
        assert whole["Fn::Sub"].endswith("/2015-03-31/functions/${HttpFunction.Arn}/invocations")
        assert integration["responseTransferMode"] == {"Fn::If": ["Stream", "STREAM", "BUFFERED"]}
        assert integration["timeoutInMillis"] == {"Fn::If": ["Stream", 900_000, 29_000]}
    assert api["Body"]["securityDefinitions"] == {"api_key": {"type": "apiKey", "name": "x-api-key", "in": "header"}}


@pytest.mark.parametrize("token", [True, False])
@pytest.mark.parametrize("key", [True, False])
@pytest.mark.parametrize("stream", [True, False])
def test_the_rest_stage_shows_the_methods_of_its_way_in(token: bool, key: bool, stream: bool) -> None:
    """A deployment does not follow its methods: each way in, and out, has one of its own, made after the API."""
    holds = {"UseRest": True, "ByToken": token, "ByKey": key, "Stream": stream}

    def truth(condition: dict[str, Any]) -> bool:
        match condition:
            case {"Condition": name}:
                return holds[name] if name in holds else truth(TEMPLATE["Conditions"][name])
            case {"Fn::And": parts}:
                return all(map(truth, parts))
            case {"Fn::Not": [part]}:
                return not truth(part)
        raise AssertionError(f"a condition of a form that this test does not know: {condition}")

    def chosen(value: dict[str, Any]) -> str:
        if "Ref" in value:
            return value["Ref"]
        condition, yes, no = value["Fn::If"]
        return chosen(yes if truth({"Condition": condition}) else no)

    deployments = of_type("AWS::ApiGateway::Deployment")
    made = [name for name, one in deployments.items() if truth({"Condition": one["Condition"]})]
    assert made == [chosen(RESOURCES["HttpRestStage"]["Properties"]["DeploymentId"])]
    assert all(one["Properties"]["RestApiId"] == {"Ref": "HttpRest"} for one in deployments.values())
    assert len(deployments) == 8


def test_answers_are_streamed_by_the_door_and_the_function_alike() -> None:
    """The function streams where it is told to, and must be told so where the door expects it."""
    conditions, parameter = TEMPLATE["Conditions"], TEMPLATE["Parameters"]["Answers"]
    assert conditions["Stream"] == {"Fn::Equals": [{"Ref": "Answers"}, "Streamed"]}
    assert (parameter["Default"], parameter["AllowedValues"]) == ("Buffered", ["Buffered", "Streamed"])
    assert RESOURCES["HttpUrl"]["Properties"]["InvokeMode"] == {"Fn::If": ["Stream", "RESPONSE_STREAM", "BUFFERED"]}
    assert environment("HttpFunction")["M2FP_RESPONSE_STREAM"] == {"Fn::If": ["Stream", "on", "off"]}
    assert "M2FP_RESPONSE_STREAM" not in environment("S3Function")
    rule = TEMPLATE["Rules"]["OnlySomeDoorsStream"]
    assert rule["RuleCondition"] == conditions["Stream"]
    assert rule["Assertions"][0]["Assert"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "HttpDoor"}, "HttpApi"]}]}


def test_the_usage_plan_is_made_where_a_key_is_asked_for() -> None:
    for kind in ("UsagePlan", "UsagePlanKey", "ApiKey"):
        (one,) = of_type(f"AWS::ApiGateway::{kind}").values()
        assert one["Condition"] == "UseRestByKey"
    plan = RESOURCES["HttpRestPlan"]["Properties"]
    assert plan["Throttle"] == {"RateLimit": {"Ref": "RestRatePerSecond"}, "BurstLimit": {"Ref": "RestBurst"}}


@pytest.mark.parametrize(
    ("bucket", "key"), [("InputBucket", "InputKey"), ("UploadBucket", "InputKey"), ("OutputBucket", "OutputKey")]
)
def test_buckets_have_the_keys_that_are_given(bucket: str, key: str) -> None:
    (rule,) = RESOURCES[bucket]["Properties"]["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"] == {
        "SSEAlgorithm": {"Fn::If": [f"Has{key}", "aws:kms", "AES256"]},
        "KMSMasterKeyID": {"Fn::If": [f"Has{key}", {"Ref": f"{key}Arn"}, {"Ref": "AWS::NoValue"}]},
    }
    pattern = TEMPLATE["Parameters"][f"{key}Arn"]["AllowedPattern"]
    assert re.search(pattern, "arn:aws:kms:eu-central-1:123456789012:key/0f1e-2d3c")
    assert re.search(pattern, "")
    assert not re.search(pattern, "arn:aws:kms:eu-central-1:123456789012:alias/photos")


def test_outputs_may_go_through_an_access_point() -> None:
    bucket = TEMPLATE["Globals"]["Function"]["Environment"]["Variables"]["M2FP_OUTPUT_BUCKET"]["Fn::If"]
    assert bucket[:2] == ["UseAccessPoint", {"Ref": "OutputAccessPointArn"}]
    assert bucket[2] == {"Fn::If": ["MakeOutputBucket", {"Ref": "OutputBucket"}, {"Ref": "ExistingOutputBucket"}]}
    pattern = TEMPLATE["Parameters"]["OutputAccessPointArn"]["AllowedPattern"]
    assert re.search(pattern, "arn:aws:s3:eu-central-1:123456789012:accesspoint/masks")
    assert not re.search(pattern, "masks-abcdef-s3alias")
    assert "AccessPointsHaveBuckets" in TEMPLATE["Rules"]


def test_functions_run_in_the_network_that_is_given() -> None:
    network = {"SubnetIds": {"Ref": "SubnetIds"}, "SecurityGroupIds": {"Ref": "SecurityGroupIds"}}
    common = TEMPLATE["Globals"]["Function"]
    assert common["VpcConfig"] == {"Fn::If": ["InVpc", network, {"Ref": "AWS::NoValue"}]}
    assert TEMPLATE["Parameters"]["SubnetIds"]["Default"] == ""


def test_traces_are_taken_where_they_are_asked_for() -> None:
    assert TEMPLATE["Globals"]["Function"]["Tracing"] == {"Ref": "Tracing"}
    assert RESOURCES["HttpRestStage"]["Properties"]["TracingEnabled"] == {"Fn::If": ["Trace", True, False]}
    assert TEMPLATE["Parameters"]["Tracing"]["Default"] == "PassThrough"


def test_tags_are_the_stacks() -> None:
    """CloudFormation gives a stack's tags to all that takes tags, unless a resource has one of the same name itself."""
    assert not list(values_of(RESOURCES, "Tags"))
    assert not list(values_of(RESOURCES, "PropagateTags"))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_lambda_drops_no_line_of_metrics(name: str) -> None:
    """Lambda's filter is left open; the function filters its own lines by LogLevel, and writes them as JSON."""
    logging = RESOURCES[name]["Properties"]["LoggingConfig"]
    assert logging["ApplicationLogLevel"] == {"Fn::If": ["LogJson", "TRACE", {"Ref": "AWS::NoValue"}]}
    assert logging["LogFormat"] == {"Ref": "LogFormat"}
    assert environment(name)["M2FP_LOG"] == {"Ref": "LogLevel"}
    assert environment(name)["M2FP_LOG_FORMAT"] == "json"


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


# How the function counts each way to end.
ENDS = dict(re.findall(r'Self::(\w+) => "(\w+)",', (ROOT / "src/telemetry/emf.rs").read_text()))


# The ends that HTTP answers with 5xx, by the table in src/error.rs.
SERVER_FAULTS = ("Busy", "Deadline", "Storage", "Internal")


def metrics_of(node: Any) -> set[tuple[str, str]]:  # noqa: ANN401 - YAML
    """Namespace and name of every metric an alarm looks at."""
    found = {(one["Namespace"], one["MetricName"]) for one in values_of(node, "Metric")}
    return found | ({(node["Namespace"], node["MetricName"])} if "MetricName" in node else set())


def documented() -> set[str]:
    """The function's own metrics, by docs/operations.md (which a test of the crate holds against the code)."""
    page = (ROOT / "docs/operations.md").read_text()
    return set(re.findall(r"^\| `(\w+)` \| (?:Count|Megabytes|Percent|Milliseconds) \|", page, re.MULTILINE))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_is_watched(name: str) -> None:
    alarms = [one["Properties"] for one in of_type("AWS::CloudWatch::Alarm").values() if f"'{name}'" in str(one)]
    watched = {metric for one in alarms for metric in metrics_of(one)}
    assert watched == {
        ("AWS/Lambda", "Errors"),
        ("AWS/Lambda", "Throttles"),
        ("AWS/Lambda", "Duration"),
        ("m2fp", "MemoryUsed"),
    } | {("m2fp", ENDS[fault]) for fault in SERVER_FAULTS}
    timeout = RESOURCES[name]["Properties"]["Timeout"]["Ref"]
    (duration,) = [one for one in alarms if "duration /" in str(one)]
    # Milliseconds of so many seconds, in percent.
    assert duration["Metrics"][0]["Expression"] == {"Fn::Sub": f"duration / (10 * ${{{timeout}}})"}


def test_server_faults_are_those_of_the_table() -> None:
    table = (ROOT / "src/error.rs").read_text()
    rows = re.findall(r"Self::(\w+)[^=\n]*=> \(StatusCode::(\w+), ", table)
    assert len(rows) > 10
    server = {"INTERNAL_SERVER_ERROR", "BAD_GATEWAY", "SERVICE_UNAVAILABLE", "GATEWAY_TIMEOUT"}
    assert {error for error, status in rows if status in server} == set(SERVER_FAULTS)
    assert set(SERVER_FAULTS) < set(ENDS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_sum_of_faults_takes_every_metric_that_has_no_data_for_0(name: str) -> None:
    """Without FILL one metric that never had a value would leave the sum without one, and the alarm quiet."""
    (alarm,) = [
        one["Properties"]
        for one in of_type("AWS::CloudWatch::Alarm").values()
        if f"'{name}'" in str(one) and "InternalFaults" in str(one)
    ]
    (total, *metrics) = alarm["Metrics"]
    filled = ", ".join(f"FILL({metric['Id']}, 0)" for metric in metrics)
    assert total["Expression"] == f"SUM([{filled}])"
    assert {metric["ReturnData"] for metric in metrics} == {False}
    assert {metric["MetricStat"]["Stat"] for metric in metrics} == {"Sum"}


def test_the_dashboard_shows_metrics_that_exist() -> None:
    body = RESOURCES["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    named = set(re.findall(r"\$\{([\w.:]+)\}", body))
    assert named == {"AWS::Region", "HttpFunction", "S3Function", "DeadLetters.QueueName"}
    widgets = json.loads(body)["widgets"]
    metrics = [metric for widget in widgets for metric in widget["properties"]["metrics"]]
    ours = {metric[1] for metric in metrics if metric[0] == "m2fp"}
    assert ours <= documented()
    # Every end of a parse is on it.
    assert set(ENDS.values()) <= ours
    assert {metric[2] for metric in metrics} == {"FunctionName", "QueueName"}
    places = [(widget["x"], widget["y"]) for widget in widgets]
    assert len(set(places)) == len(places)


def test_the_functions_metrics_are_the_documented_ones() -> None:
    for alarm in of_type("AWS::CloudWatch::Alarm").values():
        assert {name for space, name in metrics_of(alarm["Properties"]) if space == "m2fp"} <= documented()
    assert 'NAMESPACE: &str = "m2fp"' in (ROOT / "src/telemetry/emf.rs").read_text()
