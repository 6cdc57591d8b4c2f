"""Commands of `regie` without the time it takes to load: one process has everything imported and forks for each.

`typist.py serve SOCKET` waits for commands; `typist.py type SOCKET ARGUMENT...` is one, with the folder, the
environment and the streams of whoever typed it. What it says and its exit code are those of `regie`.
"""

import array
import json
import os
import signal
import socket
import sys

STREAMS = 3
"""Standard input, output and error."""
MOST_BYTES = 1_000_000


def serve(address: str) -> None:
    """Fork for each command until killed."""
    import gc  # noqa: PLC0415  whoever types needs none of what stands here

    from regie import blocks, cli, connectors, discovery  # noqa: PLC0415  same

    # What somebody adds later is found by the command that looks for it.
    for package in (cli, connectors, blocks):
        discovery.modules(package)
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        # Nobody waits for the children.
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while True:
            order, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                order.sendall(bytes([_done(order, cli.main)]))
                os._exit(0)
            order.close()


def _done(order: socket.socket, main) -> int:  # type: ignore[no-untyped-def]  # noqa: ANN001  no import for a type
    """Carry out one command; its exit code."""
    content, streams, _, _ = socket.recv_fds(order, MOST_BYTES, STREAMS)
    while more := order.recv(MOST_BYTES):
        content += more
    wanted = json.loads(content)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    # The one that is there was made for another stream, and that one could seek.
    sys.stdout = open(1, "w", encoding=sys.stdout.encoding, closefd=False)  # noqa: SIM115  it stays open
    os.chdir(wanted["folder"])
    os.environ.clear()  # noqa: TID251  it is a process of somebody else now
    os.environ.update(wanted["environment"])  # noqa: TID251  same
    sys.argv = ["regie", *wanted["arguments"]]
    code: object = 0
    try:
        main()
    except SystemExit as ended:
        code = ended.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return code if isinstance(code, int) else 0


def type_(address: str, arguments: list[str]) -> int:
    """Have a command carried out; its exit code."""
    wanted = {"folder": os.getcwd(), "environment": dict(os.environ), "arguments": arguments}  # noqa: PTH109, TID251
    with socket.socket(socket.AF_UNIX) as order:
        order.connect(address)
        streams = array.array("i", range(STREAMS))
        order.sendmsg([json.dumps(wanted).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
        order.shutdown(socket.SHUT_WR)
        return order.recv(1)[0]


if __name__ == "__main__":
    _, act, path, *rest = sys.argv
    if act == "serve":
        serve(path)
    else:
        sys.exit(type_(path, rest))
