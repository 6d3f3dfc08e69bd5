"""The template of the functions on Lambda Managed Instances: `instances_template.py OUT [--template TEMPLATE]`.

SAM takes a capacity provider or a VPC, and decides which before a parameter has a value: so there are two templates.
The second has two parameters more, CapacityProviderArn and EnvironmentConcurrency, and is otherwise the first. It is
made of template.yaml, or of another, such as the one that image_template.py makes.
"""

import argparse
from pathlib import Path

TEMPLATE = Path(__file__).parents[1] / "template.yaml"

VPC = """\
    VpcConfig: !If
      - InVpc
      - SubnetIds: !Ref SubnetIds
        SecurityGroupIds: !Ref SecurityGroupIds
      - !Ref AWS::NoValue
"""
PROVIDER = """\
    CapacityProviderConfig:
      Arn: !Ref CapacityProviderArn
      PerExecutionEnvironmentMaxConcurrency: !Ref EnvironmentConcurrency
"""
MEMORY = "    Default: 1769\n    MinValue: 128\n    MaxValue: 10240\n"
# Lambda's least and greatest on Managed Instances; each vCPU comes with 2 GB.
INSTANCE_MEMORY = "    Default: 4096\n    MinValue: 2048\n    MaxValue: 32768\n"
DOOR = "  HttpDoor:\n    Type: String\n"
PARAMETERS = """\
  CapacityProviderArn:
    Type: String
    AllowedPattern: ^arn:aws[a-z-]*:lambda:[a-z0-9-]+:[0-9]{12}:capacity-provider:[A-Za-z0-9_-]+$
    ConstraintDescription: must be the ARN of a capacity provider of Lambda
    Description: Capacity provider whose instances, subnets and security groups both functions use.
  EnvironmentConcurrency:
    Type: Number
    Default: 4
    MinValue: 1
    MaxValue: 1600
    Description: Requests at once in one process of a function. docs/deploy.md says how many fit.
"""
GROUP = "HttpConcurrency, S3Concurrency]"
CONDITIONS = "\nConditions:\n"
RULES = """\
  ProvidersHaveTheNetwork:
    Assertions:
      - Assert: !EachMemberEquals [!Ref SubnetIds, ""]
        AssertDescription: The capacity provider has its own subnets; SubnetIds must be empty.
  NoneIsReserved:
    Assertions:
      - Assert: !And [!Equals [!Ref HttpConcurrency, -1], !Equals [!Ref S3Concurrency, -1]]
        AssertDescription: Functions on Managed Instances have no reserved concurrency; both must be -1.
"""


def instances_template(text: str) -> str:
    """`text`, a template of ordinary functions, for Managed Instances."""
    changes = [
        (VPC, PROVIDER),
        (MEMORY, INSTANCE_MEMORY),
        (DOOR, PARAMETERS + DOOR),
        (GROUP, GROUP.replace("]", ", CapacityProviderArn, EnvironmentConcurrency]")),
        (CONDITIONS, RULES + CONDITIONS),
    ]
    for old, new in changes:
        if text.count(old) != 1:
            raise ValueError(f"the template has {text.count(old)} times, not once:\n{old}")
        text = text.replace(old, new)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--template", type=Path, default=TEMPLATE, help="made of this (default: template.yaml)")
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(instances_template(arguments.template.read_text()))


if __name__ == "__main__":
    main()
