"""Prints what the extras named on the command line ask for, one requirement a line, from pyproject.toml.

An image's dependencies are installed from it before any of our own code is copied, so that a changed line of code costs
no second download.
"""

import sys

import tomllib

with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
lines = [
    *project["dependencies"],
    *(line for extra in sys.argv[1:] for line in project["optional-dependencies"][extra]),
]
sys.stdout.write("".join(f"{line}\n" for line in lines))
