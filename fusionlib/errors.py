"""Everything a user can cause ends in one of these, with a message that says what to do."""


class FusionError(Exception):
    """Base of all errors of this package; the command line prints its message and exits with 2."""


class ImageError(FusionError):
    """A file is not an image this package can use, or an array has the wrong shape or range."""


class PairError(FusionError):
    """Infrared and visible files do not pair up, or the two images of a pair do not fit."""


class DatasetError(FusionError):
    """A data folder, archive or split manifest is missing, ambiguous or contradictory."""


class DownloadError(FusionError):
    """A file could not be fetched, or what came back is not what was expected."""


class EncoderError(FusionError):
    """The frozen image encoder cannot be built: unknown name, or weights that are not there."""


class WeightsError(FusionError):
    """A weights file is damaged, or belongs to another network or encoder."""


class TrainingError(FusionError):
    """Training cannot start or go on: no data, impossible sizes, or a loss that is not finite."""


class NotebookError(FusionError):
    """A notebook was refused before its kernel started, or did not reach its closing line."""


class MetricError(FusionError):
    """Images a metric cannot compare: other shapes, not 8-bit luma, or too small."""


class TooSmallError(MetricError):
    """Images smaller than a metric's window."""


class UndefinedError(MetricError):
    """A metric has no value for these images, although they are valid, such as 0 / 0."""
