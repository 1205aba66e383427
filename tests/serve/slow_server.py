"""A server around a made-up classifier, in a process that signals end. Run as: python -m … [PORT].

Without a port it takes a free one, and answers row by row, and only once it is asked to end.
"""

import asyncio
import sys
import time
from dataclasses import replace

from serve.http.logs import set_up
from serve.http.server import Listener, listen
from tests.serve.made_up import PATIENT, MadeUp, application


class Held(MadeUp):
    """Warms up, and then waits for the end."""

    def score(self, texts):
        while self.batches and not sys.argv[1:] and not listener.server.should_exit:
            time.sleep(0.01)
        return super().score(texts)


set_up(texts=False)
limits = replace(PATIENT, batch_rows=1)
app, service = application(Held(), limits)
listener = Listener(app, listen("127.0.0.1", int(sys.argv[1]) if sys.argv[1:] else 0), limits, service.end)
print(f"http://127.0.0.1:{listener.port}/", file=sys.stderr, flush=True)
asyncio.run(listener.serve(signals=True))
