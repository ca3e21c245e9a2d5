"""The error every refusal of this room is made of."""


class BundleError(Exception):
    """A bundle, head file, tail or data set is not what it should be: says what was found and expected."""
