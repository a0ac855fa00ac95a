"""Parses a page of metrics as Prometheus' own Python client does, and prints it as JSON.

usage: parse_metrics.py FILE
"""

import json
import sys

from prometheus_client.parser import text_string_to_metric_families


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as page:
        families = list(text_string_to_metric_families(page.read()))
    samples = [
        {"family": family.name, "type": family.type, "help": family.documentation,
         "name": sample.name, "labels": sample.labels, "value": sample.value}
        for family in families
        for sample in family.samples
    ]
    json.dump(samples, sys.stdout)


if __name__ == "__main__":
    main()
