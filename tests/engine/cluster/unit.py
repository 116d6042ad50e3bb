"""A unit's process of the tests: it speaks with its replica as a real one does, and reads no record.

A unit whose name begins with "dies-N" ends with exit code N as soon as it has its name, one called "deaf" never holds, one
called "mute" never says that it has started.
"""

import socket
import sys

tie = socket.socket(fileno=int(sys.argv[sys.argv.index("--control") + 1]))
tie.sendall(b"warm\n")
name = ""
for line in tie.makefile():
    word, _, rest = line.strip().partition(" ")
    if word == "unit":
        name = rest.split()[0]
        if name.startswith("dies-"):
            sys.exit(int(name.split("-")[1]))
        tie.sendall(b"page http://127.0.0.1:1\n" + (b"" if name == "mute" else b"started\n"))
    elif word == "hold" and name != "deaf":
        tie.sendall(b"held\n")
