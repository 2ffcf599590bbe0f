"""The two commands of Helm that the tests use, on its library: for machines without the program.

    helm.py template NAME CHART [--namespace NS] [--values FILE]
    helm.py lint CHART [--strict] [--values FILE]
"""

import argparse
import sys

import helm_python as helm


def values(path):
    if not path:
        return {}
    with open(path, encoding="utf-8") as file:
        return helm.values_from_yaml(file.read())


def template(given):
    with helm.Chart.load(given.chart) as chart:
        files = chart.render(values(given.values), name=given.name, namespace=given.namespace)
    for name, text in sorted(files.items()):
        if text.strip() and not name.endswith("NOTES.txt"):
            print(f"---\n# Source: {name}\n{text}")


def lint(given):
    report = helm.lint(given.chart, values(given.values), strict=given.strict)
    for message in report["messages"]:
        print(message)
    for error in report["errors"]:
        print(error, file=sys.stderr)
    worst = max((message["severity"] for message in report["messages"]), default=0)
    if report["errors"] or worst >= (2 if given.strict else 3):
        sys.exit(1)


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    rendering = commands.add_parser("template")
    rendering.add_argument("name")
    rendering.set_defaults(run=template)
    linting = commands.add_parser("lint")
    linting.add_argument("--strict", action="store_true")
    linting.set_defaults(run=lint)
    for command in (rendering, linting):
        command.add_argument("chart")
        command.add_argument("--namespace", default="default")
        command.add_argument("--values")
    given = parser.parse_args()
    try:
        given.run(given)
    except helm.HelmError as error:
        sys.exit(f"Error: {error}")


main()
