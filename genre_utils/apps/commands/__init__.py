"""The work of each command: `options` of the command line in, its exit code out."""

from genre_utils.support import lazy_names

__getattr__ = lazy_names(
    __name__,
    prediction="predict",
    datasets="evaluate read",
    models="app card export",
)
