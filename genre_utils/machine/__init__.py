"""This machine: Keras' backend, its devices and processes, Colab and Kaggle."""

from genre_utils.support import lazy_names

__getattr__ = lazy_names(
    __name__,
    environment=(
        "DRIVE HOSTS prepare outdated choose_backend import_keras connect replicas "
        "accelerated posters_at_once check_tensorboard persistent_path upload processes"
    ),
)
