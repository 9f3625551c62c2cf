"""A book you can pip install: autoencoders and variational autoencoders in Keras."""
__version__ = "0.1.0"
