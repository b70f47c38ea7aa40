"""terminal.py QUESTION ANSWER COMMAND...: runs a command on a terminal of its own and types ANSWER once it says QUESTION.

All that appears on the terminal goes to stdout; the exit code is the command's.
"""

import os
import pty
import sys

question, answer, *command = sys.argv[1:]
said = b""


def read(terminal: int) -> bytes:
    """What appeared; types the answer behind the question."""
    global said
    asked = question.encode() in said
    chunk = os.read(terminal, 65536)
    said += chunk
    if not asked and question.encode() in said:
        os.write(terminal, answer.encode())
    return chunk


sys.exit(os.waitstatus_to_exitcode(pty.spawn(command, read)))
