"""An opened model directory: weights, tokenizer and encoders, each loaded when first needed."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Self, TypeVar

from app.common.closing import Closing
from app.common.errors import ConfigError, ModelFormatError
from app.runtime.encoders.backend import Backend, native_device
from app.runtime.formats.checksum import verify_once
from app.runtime.formats.gguf import GgufFile
from app.runtime.formats.model_dir import open_model_directory
from app.runtime.formats.params import AudioParams, Params, TokenIds, VisionParams
from app.runtime.language.context import ContextOptions
from app.runtime.language.model import LanguageModel, RopeLengths
from app.runtime.language.tokenizer import METADATA_KEY, Tokenizer
from app.runtime.media_cache import MediaEncoder
from app.runtime.session import Session

if TYPE_CHECKING:
    from pathlib import Path

    from app.runtime.encoders.audio import AudioEncoder
    from app.runtime.encoders.vision import VisionEncoder
    from app.runtime.events import SessionOptions
    from app.runtime.media_cache import ImageEncoder, SoundEncoder

_logger = logging.getLogger("app.runtime.model")

MEDIA_CACHE_BYTES = 512 << 20
_BYTES_PER_THREAD = 32 << 20  # of weights; a core reads them in about 2 ms
_STOP_IDS_KEY = "hearsee.stop_token_ids"
_P = TypeVar("_P", bound=Params)


@dataclass(frozen=True, slots=True)
class OpenOptions:
    """How a model is opened.

    Attributes:
        device: "auto", "cpu" or a device's name.
        gpu_layers: layers of the language model to put on a GPU; None means all.
        n_threads: CPU threads; None means one per physical core, fewer where a model is small.
        exact: the most exact setting (F32 KV cache, no flash attention) instead of the fast one.
        media_cache_bytes: memory for encoder outputs.
    """

    device: str = "auto"
    gpu_layers: int | None = None
    n_threads: int | None = None
    exact: bool = False
    media_cache_bytes: int = MEDIA_CACHE_BYTES


def worthwhile_threads(n_bytes: int, n_cores: int) -> int:
    """CPU threads for a language model of ``n_bytes``, at most one per core.

    A step reads all weights and waits for the slowest thread at every operation: a model of a few
    megabytes gains nothing from a second thread and, on a busy machine, was 200 times slower with it.
    """
    return min(n_cores, 1 + n_bytes // _BYTES_PER_THREAD)


class Model(Closing):
    """A model ready to be talked to through sessions.

    Threads: sessions of one model must not compute at the same time; they share its encoders.

    Attributes:
        directory: where its files are.
        manifest: what model.yaml says.
        language: weights and adapters.
        tokenizer: of plain text.
        token_ids: special tokens.
        media: rows of pictures and sounds, cached.
        context_options: how contexts compute.
    """

    def __init__(self, directory: Path, options: OpenOptions) -> None:
        """Load the language model; use :meth:`open`.

        Raises:
            ModelFormatError: a file is missing, damaged or does not fit the others.
            DeviceError: the device is unknown or out of memory.
        """
        self.directory, self._options = directory, options
        self.manifest = open_model_directory(directory)
        with ExitStack() as stack:
            self._backend = stack.enter_context(Backend(options.device, options.n_threads))
            self._open_language(stack)
            self.media = self._media()
            self._encoders = stack.enter_context(ExitStack())
            self._resources = stack.pop_all()
        flash = not options.exact and not self._backend.is_cpu
        threads = options.n_threads or worthwhile_threads(
            self.manifest.files["language"].bytes, self._backend.n_threads
        )
        self.context_options = ContextOptions(options.exact, n_threads=threads, flash_attention=flash)
        self._vision: VisionEncoder | None = None
        self._audio: AudioEncoder | None = None

    @classmethod
    def open(
        cls,
        directory: Path,
        device: str = "auto",
        gpu_layers: int | None = None,
        n_threads: int | None = None,
        exact: bool = False,
        media_cache_bytes: int = MEDIA_CACHE_BYTES,
    ) -> Self:
        """Open a model directory; arguments as in OpenOptions, errors as the constructor's."""
        options = OpenOptions(device, gpu_layers, n_threads, exact, media_cache_bytes)
        return cls(directory, options)

    def _open_language(self, stack: ExitStack) -> None:
        path = self._path("language")
        with GgufFile(path) as file:
            check_architecture(file, path, "phi3")
            lengths = RopeLengths.from_metadata(file.metadata, str(path))
            self.token_ids = TokenIds.from_metadata(file.metadata, str(path))
            self._stop_tokens = _stop_tokens(file, self.token_ids, path)
            text = file.metadata.get(METADATA_KEY)
            if not isinstance(text, str):
                raise ModelFormatError(f"{path}: metadata key {METADATA_KEY} is missing; convert the model again")
            self.tokenizer = Tokenizer(text, str(path))
        adapters = {name: self._adapter_path(name) for name in ("speech", "vision") if self._has(f"{name}_adapter")}
        self.language = LanguageModel(
            path, lengths, adapters=adapters, devices=self._offload_devices(), gpu_layers=self._options.gpu_layers
        )
        stack.callback(self.language.close)
        self._check_ids(path)

    def _adapter_path(self, name: str) -> Path:
        path = self._path(f"{name}_adapter")
        with GgufFile(path) as file:
            check_architecture(file, path, "phi3")
        return path

    def _offload_devices(self) -> list[int]:
        return [] if self._backend.is_cpu else [native_device(self._backend.device.name)]

    def _check_ids(self, path: Path) -> None:
        too_big = [name for name, value in self.token_ids.to_metadata().items() if value >= self.language.n_vocab]
        if too_big:
            raise ModelFormatError(f"{path}: {', '.join(too_big)} lie outside the vocabulary; convert the model again")

    def _media(self) -> MediaEncoder:
        vision, audio = self._params("vision_encoder", VisionParams), self._params("audio_encoder", AudioParams)
        return MediaEncoder(
            vision=None if vision is None else (vision, self._vision_encoder),
            audio=None if audio is None else (audio, self._audio_encoder),
            row_length=self.language.n_embd,
            max_bytes=self._options.media_cache_bytes,
        )

    def _params(self, role: str, kind: type[_P]) -> _P | None:
        if not self._has(role):
            return None
        path = self._path(role)
        with GgufFile(path) as opened:
            return kind.from_metadata(opened.metadata, str(path))

    def _has(self, role: str) -> bool:
        return role in self.manifest.roles

    def _path(self, role: str) -> Path:
        """Path of a file that is as the manifest says; its digest is computed once per file, not per run."""
        entry = self.manifest.files[role]
        path = self.directory / entry.path
        try:
            size = path.stat().st_size
        except OSError as error:
            raise ModelFormatError(f"{path}: {error.strerror}; install or convert the model again") from error
        if size != entry.bytes:
            raise ModelFormatError(
                f"{path} has {size} bytes instead of {entry.bytes}; install or convert the model again"
            )
        verify_once(path, entry.sha256)
        return path

    def _vision_encoder(self) -> ImageEncoder:
        if self._vision is None:
            from app.runtime.encoders.vision import VisionEncoder

            self._vision = VisionEncoder(self._path("vision_encoder"), self._backend, exact=self._options.exact)
            self._encoders.callback(self._vision.close)
        return self._vision

    def _audio_encoder(self) -> SoundEncoder:
        if self._audio is None:
            from app.runtime.encoders.audio import AudioEncoder

            self._audio = AudioEncoder(self._path("audio_encoder"), self._backend, exact=self._options.exact)
            self._encoders.callback(self._audio.close)
        return self._audio

    @property
    def name(self) -> str:
        """The model's name."""
        return self.manifest.name

    @property
    def device_name(self) -> str:
        """What computes."""
        return self._backend.device.name

    @property
    def context_tokens(self) -> int:
        """The longest conversation this model offers."""
        offered = self.manifest.limits.context_tokens
        return min(offered or self.language.lengths.context_tokens, self.language.lengths.context_tokens)

    @property
    def stop_tokens(self) -> frozenset[int]:
        """Ids that end an answer."""
        return self._stop_tokens

    def session(self, options: SessionOptions | None = None) -> Session:
        """A new session; close it before the model.

        Raises:
            ConfigError: an option is out of range.
        """
        if options and min(options.chunk_tokens, options.max_contexts, options.context_tokens or 1) < 1:
            raise ConfigError("chunk_tokens, max_contexts and context_tokens must be at least 1")
        return Session(self, options)

    def close(self) -> None:
        """Free encoders, adapters and weights."""
        self._resources.close()


def _stop_tokens(file: GgufFile, ids: TokenIds, path: Path) -> frozenset[int]:
    """Both end tokens, and what the checkpoint names besides."""
    named = file.metadata.get(_STOP_IDS_KEY)
    more = [] if named is None else list(named)
    if not all(isinstance(token, Integral) for token in more):
        raise ModelFormatError(f"{path}: metadata key {_STOP_IDS_KEY} is no list of token ids; convert the model again")
    return frozenset((ids.end, ids.endoftext, *map(int, more)))


def check_architecture(file: GgufFile, path: Path, wanted: str) -> None:
    """Raise ModelFormatError unless the file says it is of architecture ``wanted``."""
    found = file.metadata.get("general.architecture")
    if found != wanted:
        raise ModelFormatError(f"{path}: its architecture is {found!r}, {wanted} is needed; convert the model again")
