"""Every failure that a user can cause or meet, as one tree (stdlib only).

AlexNetError            one line of what was found and what was expected; `hint` says what to do next
├── RecipeError         a recipe or configuration file that contradicts itself or cannot be read
├── DataError           anything about pictures and stores
│   ├── SourceError     the folder given to `prepare` is not what it should be
│   ├── ImageError      one picture that cannot be read
│   └── StoreError      a store that is missing, incomplete, damaged or in the way
├── CheckpointError     a weights file or a resume folder that is missing, damaged or of another kind
├── RunError            a run that exists, does not exist, or cannot go on
│   └── DivergedError   a training whose loss is no number
├── DeviceError         a device or precision that this machine does not have
├── DownloadError       a file that cannot be had from the network, or is not the one that was meant
├── ElsewhereError      a failure that another rank has, and tells
└── DiskFullError       a write that the disk refused; what stood before still stands
"""


class AlexNetError(Exception):
    """What was found and what was expected, in one line.

    hint: what the user can do next, without the word "hint"; empty where there is nothing to add.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class RecipeError(AlexNetError):
    """A recipe or configuration that contradicts itself or cannot be read."""


class DataError(AlexNetError):
    """Pictures or a store that cannot be used."""


class SourceError(DataError):
    """A folder of pictures that does not have the expected shape."""


class ImageError(DataError):
    """One picture that cannot be read; the message is the reason alone, without the path."""


class StoreError(DataError):
    """A store that is missing, incomplete, damaged or in the way."""


class CheckpointError(AlexNetError):
    """A weights file or a resume folder that is missing, damaged or of another kind."""


class RunError(AlexNetError):
    """A run that exists, does not exist, or cannot go on."""


class DivergedError(RunError):
    """A training whose loss is no number."""


class DeviceError(AlexNetError):
    """A device or precision that this machine does not have."""


class DownloadError(AlexNetError):
    """A file that cannot be had from the network, or is not the one that was meant."""


class ElsewhereError(AlexNetError):
    """A failure that another rank of the training has, and tells; this one has nothing to add."""


class DiskFullError(AlexNetError):
    """A write that the disk refused; what stood before still stands."""
