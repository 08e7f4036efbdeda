from __future__ import annotations

import pytest

from app.common.errors import NativeCallError
from app.runtime.ffi import llama
from app.runtime.ffi.binding import NativeFunction

STUBS = [stub for stub in vars(llama).values() if isinstance(stub, NativeFunction)]


@pytest.mark.parametrize("stub", STUBS, ids=lambda stub: stub.name)
def test_the_installed_library_has_every_function(stub):
    assert callable(stub.bind())


def test_structures_have_the_layout_of_the_installed_library():
    llama.check_layout()


def test_a_moved_field_is_noticed(monkeypatch):
    monkeypatch.setitem(llama._DEFAULTS, "n_ubatch", 2048)
    with pytest.raises(NativeCallError, match="n_ubatch"):
        llama.check_layout()
