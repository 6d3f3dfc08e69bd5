"""Alarms of every template: what they watch, whom they tell, and that docs/operations.md says what to do."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from templates import EVERY, ROOT, of_type, values_of

ALARMS = [
    (template, name, alarm["Properties"])
    for template, content in EVERY.items()
    for name, alarm in of_type(content, "AWS::CloudWatch::Alarm").items()
]


def test_every_alarm_is_documented() -> None:
    page = (ROOT / "docs/operations.md").read_text()
    rows = page[page.index("| alarm |") :].splitlines()
    named = [name for row in rows if row.startswith("| `") for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert sorted(named) == sorted(name for _, name, _ in ALARMS)


@pytest.mark.parametrize(("template", "name", "alarm"), ALARMS, ids=[name for _, name, _ in ALARMS])
def test_every_alarm_tells_the_topic_and_is_quiet_without_data(template: str, name: str, alarm: dict[str, Any]) -> None:
    assert alarm["TreatMissingData"] == "notBreaching", name
    assert alarm["AlarmActions"] == {"Fn::If": ["TellAlarms", [{"Ref": "AlarmTopic"}], {"Ref": "AWS::NoValue"}]}
    content = EVERY[template]
    assert content["Conditions"]["TellAlarms"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "AlarmTopic"}, ""]}]}
    assert content["Parameters"]["AlarmTopic"] == EVERY["template.yaml"]["Parameters"]["AlarmTopic"]


def dead_letter_queues(template: dict[str, Any]) -> Iterator[str]:
    """Names of the queues that something failed for good goes to."""
    resources = template["Resources"]
    arns = list(values_of(resources, "deadLetterTargetArn"))
    arns += [config.get("Arn", config.get("TargetArn")) for config in values_of(resources, "DeadLetterConfig")]
    arns += [failure["Destination"] for failure in values_of(resources, "OnFailure")]
    for arn in arns:
        name, attribute = arn["Fn::GetAtt"]
        assert attribute == "Arn" and resources[name]["Type"] == "AWS::SQS::Queue", arn
        yield name


QUEUES = [(template, queue) for template, content in EVERY.items() for queue in dead_letter_queues(content)]


def test_dead_letter_queues_are_found() -> None:
    assert QUEUES == [
        ("template.yaml", "DeadLetters"),
        ("eventbridge.yaml", "Undelivered"),
        ("queue.yaml", "DeadLetters"),
    ]


@pytest.mark.parametrize(("template", "queue"), QUEUES)
def test_every_dead_letter_queue_has_an_alarm(template: str, queue: str) -> None:
    watched = {
        "Namespace": "AWS/SQS",
        "MetricName": "ApproximateNumberOfMessagesVisible",
        "Dimensions": [{"Name": "QueueName", "Value": {"Fn::GetAtt": [queue, "QueueName"]}}],
        "Statistic": "Maximum",
        "ComparisonOperator": "GreaterThanThreshold",
        "Threshold": 0,
    }
    alarms = [alarm for one, _, alarm in ALARMS if one == template]
    assert [alarm for alarm in alarms if alarm | watched == alarm], f"nothing tells of messages in {queue}"
