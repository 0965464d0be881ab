"""Trains the ADClick that ships: `make general-adclick` (needs WEAKREST_DATA and the Python environment)."""

from general_products import WORK, train

if __name__ == "__main__":
    train("train-adclick", "--name", "adclick", "--steps", "500", "--work", str(WORK / "adclick"), "--resume")
