"""The recipes that come with Slimwire, by name."""

from training.recipe import Recipe
from training.recipes.fashion_mnist import FASHION_MNIST

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (FASHION_MNIST,)}
