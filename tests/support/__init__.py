"""What the end-to-end tests share: starting the shipped binaries, raw HTTP, a foreign server."""
