"""Secrets in the system's keyring, by the package `keyring`, which is optional."""

from collections.abc import Iterator
from contextlib import contextmanager

from async_comfy import CallerError

SERVICE = "async-comfy"
_INSTALL = "Install it: pip install 'async-comfy[keyring]'"


def read(server: str, service: str, username: str) -> str:
    """The secret of one entry.

    Raises: CallerError where the package is missing, the keyring cannot be opened, or has no such entry.
    """
    with _explained(f"The server {server!r} takes its credentials from the keyring"):
        import keyring

        secret = keyring.get_password(service, username)
    if secret is None:
        raise CallerError(
            f"The server {server!r} takes its credentials from the keyring, which has no entry {username!r} "
            f"of {service!r}.",
            hint=f"Put it there: keyring set {service} {username}",
        )
    return secret


def write(username: str, secret: str) -> None:
    """Keeps a secret as an entry of our own service. Raises: as `read`."""
    with _explained("The secret would go to the keyring"):
        import keyring

        keyring.set_password(SERVICE, username, secret)


def remove(username: str) -> None:
    """Takes an entry of our own service out; one that is not there is no trouble. Raises: as `read`."""
    with _explained("The secret is in the keyring"):
        import keyring

        if keyring.get_password(SERVICE, username) is not None:
            keyring.delete_password(SERVICE, username)


@contextmanager
def _explained(purpose: str) -> Iterator[None]:
    try:
        import keyring.errors
    except ModuleNotFoundError:
        raise CallerError(f"{purpose}, and the package keyring is not installed.", hint=_INSTALL) from None
    try:
        yield
    except keyring.errors.NoKeyringError:
        raise CallerError(
            f"{purpose}, and this machine has none that can be used.",
            hint="`keyring diagnose` tells more; or use an environment variable: bearer_env.",
        ) from None
    except keyring.errors.KeyringError as error:
        raise CallerError(
            f"{purpose}, which does not open ({type(error).__name__}).",
            hint="Unlock it, and try again; `keyring diagnose` tells more.",
        ) from None
