"""The playground: an operator's own page, on this machine only, to ask and to watch the search.

    sock = listen("127.0.0.1", 0)
    asyncio.run(serve(PlaygroundConfig(Settings.load()), sock, print))

It shows what an operator's trace holds, so more than is released: what was scored unsafe, or not at
all, is marked as such.
"""

from __future__ import annotations

from ecoalign.playground._config import Example, PlaygroundConfig
from ecoalign.playground._server import beside, listen, serve

__all__ = ["Example", "PlaygroundConfig", "beside", "listen", "serve"]
