"""Makes bundles: data, teacher, slimmable head and tail, export to integers, model card.

The only room that imports torch; ``training.cli`` is the command, ``training.recipes`` what it can carry out.
"""

from importlib.util import find_spec

if find_spec("torch") is None:
    raise ModuleNotFoundError("training needs torch; pip install 'slimwire[train]'", name="torch")
