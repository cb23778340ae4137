"""The agent inside a Python sandbox; __main__.py starts it. Standard library only."""
