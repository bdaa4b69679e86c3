"""Command lines that train and evaluate."""

import os

# Before TensorFlow is imported: no news about CUDA, oneDNN and instruction
# sets on the terminal. TF_CPP_MIN_LOG_LEVEL=0 brings them back.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
