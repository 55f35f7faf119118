"""This machine: Keras' backend, its devices and processes, memory, Colab and Kaggle.

The modules import nothing but the standard library and `support`. They run before anything else is
sure to be there, and before Keras, whose backend cannot be changed once it is imported.
"""

from genre_utils.support import lazy_names

__getattr__ = lazy_names(
    __name__,
    backend="check_tensorboard choose_backend import_keras import_onnxruntime outdated prepare",
    devices="accelerated connect posters_at_once processes replicas",
    colab="DRIVE persistent_path upload",
    heap="share_heap trim_heap",
)
