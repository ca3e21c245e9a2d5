"""The errors every refusal of this room is made of."""


class BundleError(Exception):
    """A bundle, head file, tail or data set is not what it should be: says what was found and expected."""


class DataMissingError(BundleError):
    """A data set is not on this machine, and its source did not answer or was not to be asked."""
