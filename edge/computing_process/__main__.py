"""``python -m edge.computing_process SOCKET FLAGS``: started by an edge, which passes both file descriptors on."""

import sys

from edge.computing_process.child import main

main(int(sys.argv[1]), int(sys.argv[2]))
