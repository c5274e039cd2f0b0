"""The shipped network: frames, training, and the folder that ships (`models/alexnet-fashion/`)."""
