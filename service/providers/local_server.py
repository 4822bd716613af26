"""The process of the model on this machine: `python local_server.py MODEL.gguf NAME`, no import of the service.

It listens on a free loopback port, says `{"url": …}` or `{"error": …}` in one line, and ends when its standard input
does: the pipe closes however the service dies.
"""

import json
import os
import signal
import sys
from typing import Any

CONTEXT_TOKENS = 4096
SLOTS = 2


def main(weights: str, name: str) -> None:
    # The service alone decides when to stop: a Ctrl-C or a stop of the whole group lets running turns end first.
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(10)
    try:
        server = serve(weights, name)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), flush=True)
        os._exit(1)
    print(json.dumps({"url": server.listening_address + "/v1"}), flush=True)
    sys.stdin.buffer.read()
    os._exit(0)


def serve(weights: str, name: str) -> Any:
    """The llama.cpp server, listening and loaded."""
    import xllamacpp  # type: ignore[import-untyped,import-not-found,unused-ignore]  # an extra without types

    threads = max(1, min(4, (os.cpu_count() or 1) // 2))
    params = xllamacpp.CommonParams()
    params.model.path = weights
    params.model_alias = {name}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_ctx = CONTEXT_TOKENS * SLOTS
    params.n_parallel = SLOTS
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.cache_ram_mib = 0
    params.offline = True
    params.ui = False
    params.endpoint_slots = False
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main(*sys.argv[1:3])
