"""Cotejo: which image classifier is better on these images, by how much, and at what cost?"""

import os

# Both must be set before the first import of Keras, wherever that is. The models use TensorFlow's operations, so
# another backend in a user's Keras settings must not be taken; its start-up notes would hide what a stage says.
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
