"""Server A of an SMS gateway: the composition root and the adapters around ``pipeline``."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("sms-gateway")
except PackageNotFoundError:  # A checkout on the import path that was never installed.
    __version__ = "0+unknown"
