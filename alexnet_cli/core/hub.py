"""Weights files on the Hugging Face Hub: fetched by hf://owner/name, and published.

The only file that imports huggingface_hub, an extra.
"""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from alexnet_cli.core.errors import AlexNetError, DownloadError
from alexnet_cli.core.reports import Reporter

SCHEME = "hf://"
WEIGHTS_FILE = "model.safetensors"  # the name by which the Hub knows a model's weights
CARD_FILE = "README.md"
# A revision may only hold a slash where the Hub itself makes such: refs/pr/1.
REFERENCE = re.compile(r"hf://(?P<repo>[^/@]+/[^/@]+)(@(?P<revision>refs/[^/]+/[^/]+|[^/@]+))?(/(?P<file>.+))?")
UNAUTHORISED, FORBIDDEN = 401, 403


@dataclass(frozen=True)
class Reference:
    """A file of a repository on the Hub; revision: a branch, tag or commit, None for the main branch."""

    repo: str
    revision: str | None
    file: str


def parse_reference(text: str) -> Reference:
    """Return what hf://owner/name[@revision][/file] means. Raises AlexNetError for anything else."""
    found = REFERENCE.fullmatch(text)
    if not found:
        raise AlexNetError(f"{text} is no address on the Hub, expected hf://owner/name, hf://owner/name@revision/file.safetensors")
    return Reference(found["repo"], found["revision"], found["file"] or WEIGHTS_FILE)


def fetch(reference: Reference, reporter: Reporter | None = None) -> Path:
    """Return where a file of the Hub lies in the client's own cache, downloaded where it is not there yet.

    Raises DownloadError when the Hub cannot be reached or does not give it, AlexNetError without huggingface_hub.
    """
    hub = client()
    (reporter or Reporter()).note(f"{SCHEME}{reference.repo}: {reference.file}, {reference.revision or 'main'}")
    with _explained(reference.repo, reference):
        return Path(hub.hf_hub_download(reference.repo, reference.file, revision=reference.revision))


def require_login() -> None:
    """Raise AlexNetError where no token is known, before anything is made up for an upload."""
    if not client().get_token():
        raise _not_logged_in()


def push(path: Path, repo: str, card: str, *, private: bool = False, reporter: Reporter | None = None) -> str:
    """Publish a weights file as the model of a repository, with its card, in one commit; return the repository's address.

    private: of a repository that is made now. A card that is there already is somebody's work, and stays.
    Raises DownloadError when the Hub cannot be reached or refuses, AlexNetError without huggingface_hub or a token.
    """
    require_login()
    hub = client()
    with _explained(repo):
        api = hub.HfApi()
        address = str(api.create_repo(repo, private=private, exist_ok=True))
        additions = [hub.CommitOperationAdd(WEIGHTS_FILE, path)]
        if api.file_exists(repo, CARD_FILE):
            (reporter or Reporter()).note(f"the card of {repo} stays as it is")
        else:
            additions.append(hub.CommitOperationAdd(CARD_FILE, card.encode()))
        api.create_commit(repo, additions, commit_message=f"Add {WEIGHTS_FILE} with alexnet")
        return address


def client() -> ModuleType:
    """Return huggingface_hub. Raises AlexNetError where it is not installed."""
    try:
        import huggingface_hub
    except ImportError as error:
        raise AlexNetError(
            "the Hub needs huggingface_hub, which is not installed", hint="pip install 'alexnet-cli[hub]'"
        ) from error
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()  # core prints nothing
    return huggingface_hub


@contextlib.contextmanager
def _explained(repo: str, reference: Reference | None = None) -> Iterator[None]:
    """Turn the client's exceptions into ours, each with a way out."""
    from huggingface_hub import errors

    # The root of its web library's exceptions, which is httpx or httpx2, whichever the client has.
    bases = errors.HfHubHTTPError.__mro__
    http_error = next(base for base in bases if issubclass(base, Exception) and base.__name__ == "HTTPError")
    try:
        yield
    except errors.LocalTokenNotFoundError as error:
        raise _not_logged_in() from error
    except errors.GatedRepoError as error:
        raise DownloadError(
            f"{repo} is gated: only those whom its owners let in can have it", hint=f"ask for it at {_page(repo)}; {LOG_IN}"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise DownloadError(f"no repository {repo} on the Hub, or it is private", hint=f"check {_page(repo)}; {LOG_IN}") from error
    except errors.RevisionNotFoundError as error:
        revision = reference.revision if reference else None
        raise DownloadError(f"{repo} has no revision {revision}", hint=f"see {_page(repo)}/tree/main") from error
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError) as error:
        raise _unreachable(repo) from error
    except errors.EntryNotFoundError as error:
        file = reference.file if reference else ""
        raise DownloadError(f"{repo} has no file {file}", hint=f"name one of those at {_page(repo)}/tree/main") from error
    except errors.HFValidationError as error:
        raise AlexNetError(f"{repo} is no name of a repository, expected owner/name") from error
    except errors.HfHubHTTPError as error:
        raise _refused(repo, error.response.status_code, str(error)) from error
    except http_error as error:
        raise _unreachable(repo) from error


LOG_IN = 'if you may have it, log in with "hf auth login" or set HF_TOKEN'


def _not_logged_in() -> AlexNetError:
    return AlexNetError("not logged in to the Hub", hint='log in with "hf auth login", or set HF_TOKEN to a token that may write')


def _unreachable(repo: str) -> DownloadError:
    return DownloadError(
        f"the Hub cannot be reached for {repo}, and it is not in the cache",
        hint="check the network, HF_ENDPOINT and HF_HUB_OFFLINE; or name a file that was downloaded elsewhere",
    )


def _refused(repo: str, status: int, text: str) -> DownloadError:
    if status == UNAUTHORISED:
        return DownloadError(f"the Hub does not accept the token, for {repo}", hint=LOG_IN)
    if status == FORBIDDEN:
        return DownloadError(f"the token may not write to {repo}", hint="take a token with the right to write, or another owner")
    reason = next((line for line in text.splitlines() if line.strip()), "no reason given")
    return DownloadError(f"the Hub answers {status} for {repo}: {reason}", hint="run the same command again later")


def _page(repo: str) -> str:
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{repo}"
