"""AlexNet (Krizhevsky, Sutskever, Hinton, NIPS 2012), from the raw archives to the paper's numbers and pictures."""

__version__ = "0.1.0"
