"""How much may be embedded in a page: what is too large stays out, and is counted."""

from __future__ import annotations

import base64


class Budget:
    """Bytes that the embedded files of a page may take, as they stand in it.

    limit: of all together. each: of a single one.
    """

    def __init__(self, limit: int, each: int) -> None:
        self.left, self.each = limit, each
        self.refused = 0

    def data_uri(self, content: bytes, mime: str) -> str | None:
        """The content as a data: URI, None where there is no room for it."""
        size = -(-len(content) // 3) * 4
        if size > min(self.left, self.each):
            self.refused += 1
            return None
        self.left -= size
        return f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"
