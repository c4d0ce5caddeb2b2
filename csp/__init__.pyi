"""The types of what `__init__.py` imports when it is asked for."""

from csp import errors as errors
from csp.crystals import Crystals as Crystals
from csp.face.explore import explore as explore
from csp.face.models import load_model as load_model
from csp.face.phonons import phonons as phonons
from csp.face.predict import predict as predict
from csp.face.properties import predict_properties as predict_properties
from csp.face.relax import relax as relax
from csp.library.library import Library as Library
from csp.search.prediction import Prediction as Prediction

__all__ = [
    "Crystals",
    "Library",
    "Prediction",
    "__version__",
    "errors",
    "explore",
    "load_model",
    "phonons",
    "predict",
    "predict_properties",
    "relax",
]

__version__: str
