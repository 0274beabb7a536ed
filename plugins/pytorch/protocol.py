"""The program's side of tsrt-bench's external protocol (docs/external-protocol.md): lines in, lines out, tensors in files.

Knows nothing of PyTorch; a program in Python can take it as it is. Stdin is read by a thread, so that the end of the harness ends
the program even while it computes; whatever a library prints goes to stderr, because stdout belongs to the replies.
"""

import json
import os
import queue
import sys
import threading
import traceback

VERSION = 1


class Failure(Exception):
    """What the harness should report. Codes: unsupported, unavailable, out-of-memory, device-lost, usage, failed."""

    def __init__(self, code, message, fix=None):
        super().__init__(message)
        self.code = code
        self.fix = fix


def serve(handlers, translate=lambda error: None):
    """Answers requests until `dispose` or the end of stdin. `translate` turns a library's exception into a Failure, or None."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    requests = queue.Queue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()
    while True:
        request = requests.get()
        identity, name = request.pop("id"), request.pop("request")
        try:
            body = handlers[name](request) or {}
            reply = {"id": identity, "ok": True, **body}
        except Exception as error:  # every failure is a reply
            reply = {"id": identity, "ok": False, "error": _report(error, translate)}
        replies.write(json.dumps(reply) + "\n")
        if name == "dispose":
            return


def _read(requests):
    for line in sys.stdin:
        requests.put(json.loads(line))
    # The harness is gone. Not sys.exit: the main thread may be in a kernel that never ends.
    os._exit(0)


def _report(error, translate):
    failure = error if isinstance(error, Failure) else translate(error)
    if failure is None:
        traceback.print_exc()
        lines = str(error).strip().splitlines() or [""]
        failure = Failure("failed", f"{type(error).__name__}: {lines[0]}", "the traceback is below")
    report = {"code": failure.code, "message": str(failure)}
    return report if failure.fix is None else {**report, "fix": failure.fix}
