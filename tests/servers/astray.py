"""The command line under a clock that is wrong by so many seconds: `python -m tests.servers.astray 7200 serve`."""

import sys
from datetime import UTC, datetime, timedelta

import time_machine

if __name__ == "__main__":
    skew = timedelta(seconds=float(sys.argv.pop(1)))
    with time_machine.travel(datetime.now(UTC) + skew, tick=True):
        from service.cli import app

        app()
