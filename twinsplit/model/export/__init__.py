"""A model folder in the forms that other inference servers take."""
