"""What owns native or device resources is closed once, at the latest where its ``with`` block ends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType


class Closing(ABC):
    """Base of resource owners: ``with owner:`` calls :meth:`close` at the end."""

    __slots__ = ()

    @abstractmethod
    def close(self) -> None:
        """Give the resources back; calling it again does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
