"""The process above the workers of `everturn serve --workers`."""

import os
import signal

from uvicorn.supervisors import Multiprocess

LOOK_SECONDS = 0.1


class Supervisor(Multiprocess):
    """uvicorn's, which passes on the first signal to stop and waits; this one passes on those that follow, too."""

    def handle_term(self) -> None:
        if self.should_exit.is_set():
            # It came with the first one: for later, when that was passed on.
            self.signal_queue.append(signal.SIGTERM)
        else:
            super().handle_term()

    handle_int = handle_term

    def join_all(self) -> None:
        for process in self.processes:
            while process.exitcode is None:
                process.process.join(LOOK_SECONDS)
                self._pass_on()

    def _pass_on(self) -> None:
        """Send on what came meanwhile, as uvicorn sends the first: as SIGTERM."""
        while self.signal_queue:
            if self.signal_queue.pop(0) in (signal.SIGTERM, signal.SIGINT):
                for process in self.processes:
                    if process.exitcode is None and process.pid:
                        os.kill(process.pid, signal.SIGTERM)
