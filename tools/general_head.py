"""Trains the head that ships: `make general-head` (needs WEAKREST_DATA and the Python environment)."""

from general_products import train

if __name__ == "__main__":
    train("train-general", "--width", "64", "--name", "general-head")
