"""The recipes that come with Slimwire, by name, and what each is compared with."""

from training.recipe import Recipe, Rivals
from training.recipes import cifar10, fashion_mnist, wrist_imu

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe for recipe in (fashion_mnist.FASHION_MNIST, cifar10.CIFAR10, wrist_imu.WRIST_IMU)
}
RIVALS: dict[str, Rivals] = {"fashion-mnist": fashion_mnist.RIVALS, "cifar10": cifar10.RIVALS}
